"""Checkpoints stay complete when the run is killed, the disk is full, or two runs write."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.training.runs.checkpoint_folders import (
    FILES,
    IDENTITY,
    add,
    assert_whole,
    hidden_in,
    state,
    steps_in,
    truncate,
    writing,
)
from training.runs import checkpoints
from training.runs.checkpoints import CheckpointError, Checkpoints

# Kills


class Zygote:
    """A process with everything imported that forks one child at a time, so that an attempt costs no start."""

    SERVE = """
import json, os, sys, traceback
sys.path.insert(0, sys.argv[1])
import test_checkpoint_kills
for line in sys.stdin:
    name, *arguments = json.loads(line)
    child = os.fork()
    if not child:
        print("started", os.getpid(), flush=True)
        try:
            getattr(test_checkpoint_kills, name)(*arguments)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

    def __init__(self) -> None:
        command = [sys.executable, "-c", self.SERVE, str(Path(__file__).parent)]
        root = Path(checkpoints.__file__).parents[2]
        self.process = subprocess.Popen(
            command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def start(self, target: Callable[..., None], *arguments: object) -> int:
        """The process id of a child that calls `target`."""
        self.process.stdin.write(json.dumps([target.__name__, *map(_plain, arguments)]) + "\n")
        word, child = self.process.stdout.readline().split()
        assert word == "started"
        return int(child)

    def line(self) -> str:
        """The next line that the child prints, or `ended` and its exit code."""
        return self.process.stdout.readline().strip()

    def end(self) -> int:
        # A child that is killed may have written half a line, which the word then ends.
        while not (found := re.search(r"ended (-?\d+)$", line := self.line())):
            assert line, "the zygote is gone"
        return int(found.group(1))

    def run(self, target: Callable[..., None], *arguments: object) -> int:
        self.start(target, *arguments)
        return self.end()


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    started = Zygote()
    with started.process:
        yield started
        started.process.stdin.close()


def save_counting(directory: str, kill_at: int, told: str) -> None:
    """Saves step 300, keeping one, and kills itself before the file operation with the number `kill_at`."""
    operations: list[str] = []

    def watch(name: str, _: object) -> None:
        if name in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir"):
            operations.append(name)
            if len(operations) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    with Checkpoints(Path(directory), IDENTITY, keep=1) as store:
        add(store, 300)
    Path(told).write_text(json.dumps(operations))


def test_a_kill_anywhere_in_saving_and_pruning_leaves_only_whole_checkpoints(tmp_path: Path, zygote: Zygote) -> None:
    with Checkpoints(tmp_path / "before", IDENTITY) as store:
        add(store, 100, 200)
    shutil.copytree(tmp_path / "before", tmp_path / "counted")
    assert zygote.run(save_counting, tmp_path / "counted", 0, tmp_path / "told") == 0
    operations = json.loads((tmp_path / "told").read_text())
    renames = [number for number, name in enumerate(operations, 1) if name == "os.rename"]
    assert len(renames) == 3, "the new one and two old ones"
    middle = random.Random(3).sample(range(1, len(operations)), 12)
    around = [number + offset for number in renames for offset in (0, 1)]
    for point in sorted({1, *middle, *around, len(operations)}):
        output = tmp_path / f"killed-{point}"
        shutil.copytree(tmp_path / "before", output)
        assert zygote.run(save_counting, output, point, tmp_path / "told") == -signal.SIGKILL
        assert_whole(output)
        found = Checkpoints(output, IDENTITY, writer=False).latest()
        assert found.step == (200 if point <= renames[0] else 300)
        assert found.state == state(found.step)
        with Checkpoints(output, IDENTITY, keep=1) as store:
            assert hidden_in(output) == []
            add(store, 300 if found.step == 200 else 400)
        assert len(steps_in(output)) == 1
        assert_whole(output)
        shutil.rmtree(output)


def save_for_ever(directory: str) -> None:
    with Checkpoints(Path(directory), IDENTITY, milestone_every=7) as store:
        found = store.latest()
        step = found.step if found else 0
        while True:
            step += 1
            store.save(step, state(step), writing(step, lambda: print(".", flush=True)))


def test_one_run_may_be_killed_again_and_again(tmp_path: Path, zygote: Zygote) -> None:
    before, inside, rng = 0, 0, random.Random(7)
    for _ in range(25):
        child = zygote.start(save_for_ever, tmp_path)
        for _ in range(rng.randint(1, 5 * len(FILES))):
            assert zygote.line() == "."
        os.kill(child, signal.SIGKILL)
        assert zygote.end() == -signal.SIGKILL
        inside += bool(hidden_in(tmp_path))
        assert_whole(tmp_path)
        found = Checkpoints(tmp_path, IDENTITY, writer=False).latest()
        step = found.step if found else 0
        assert step >= before, "a checkpoint was lost"
        before = step
    assert before > 7
    assert inside, "no kill met a checkpoint that was being written"
    with Checkpoints(tmp_path, IDENTITY, milestone_every=7) as store:
        assert hidden_in(tmp_path) == []
        add(store, before + 1)
    assert steps_in(tmp_path) == sorted({*range(7, before + 2, 7), before, before + 1})


def test_only_the_leftovers_of_checkpoints_are_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in (".step-000000300.writing", ".step-000000100.removing", ".step-3.writing", ".venv"):
        (tmp_path / name / "folder").mkdir(parents=True)
        (tmp_path / name / "folder" / "file").write_text("something")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("something")
    (tmp_path / ".step-000000400.writing").symlink_to(tmp_path / "elsewhere")
    (tmp_path / ".notes").write_text("mine")
    assert Checkpoints(tmp_path, IDENTITY, writer=False).latest() is None
    assert len(hidden_in(tmp_path)) == 6, "who only reads removes nothing"
    with Checkpoints(tmp_path, IDENTITY) as store:
        assert hidden_in(tmp_path) == [".notes", ".step-000000400.writing", ".step-3.writing", ".venv"]
        add(store, 500)
    assert (tmp_path / "elsewhere" / "file").read_text() == "something"
    assert not caplog.records, "what is not ours is nothing to complain about"


def test_a_write_that_raises_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupted(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise KeyboardInterrupt

    with Checkpoints(tmp_path, IDENTITY) as store:
        with pytest.raises(KeyboardInterrupt):
            store.save(100, {}, interrupted)
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_an_old_checkpoint_that_cannot_be_removed_does_not_end_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Checkpoints(tmp_path, IDENTITY, keep=1) as store:
        add(store, 100)
        (tmp_path / ".step-000000100.removing").write_text("in the way")
        add(store, 200)
        assert store.latest().step == 200
    assert f"old checkpoints in {tmp_path} cannot be removed: Not a directory" in caplog.text
    assert steps_in(tmp_path) == [100, 200]


# Disks


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(path)], capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs is not permitted here; the test of the file size limit stands in for it")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(path: Path) -> None:
    """Writes for as long as there is room, and no longer."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass


@pytest.mark.parametrize("write", [lambda path: path.write_bytes(bytes(400_000)), fill])  # files, description
def test_a_full_disk_is_one_sentence_and_costs_no_checkpoint(disk: Path, write: Callable[[Path], object]) -> None:
    output = disk / "output"
    with Checkpoints(output, IDENTITY) as store:
        rest = "there is no complete checkpoint yet"
        for step in (100, 200):
            with pytest.raises(CheckpointError) as error:
                store.save(step, {}, lambda folder: write(folder / "file"))
            assert str(error.value).startswith(
                f"the checkpoint of step {step} cannot be written to {output}: No space left on device"
            )
            assert str(error.value).endswith(f"; make room or make it writable, then run again: {rest}.")
            assert hidden_in(output) == []
            add(store, step)
            assert_whole(output)
            rest = f"the checkpoint of step {step} is complete"


def save_under_a_limit(directory: str, told: str) -> None:
    """A limit on the size of a file fails writes as a full disk does, with another errno."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
    with Checkpoints(Path(directory), IDENTITY) as store:
        try:
            store.save(200, {}, lambda folder: (folder / "file").write_bytes(bytes(7000)))
        except CheckpointError as error:
            Path(told).write_text(str(error))


def test_a_write_that_fails_is_one_sentence_and_costs_no_checkpoint(tmp_path: Path, zygote: Zygote) -> None:
    output = tmp_path / "output"
    with Checkpoints(output, IDENTITY) as store:
        add(store, 100)
    assert zygote.run(save_under_a_limit, output, tmp_path / "told") == 0
    assert (tmp_path / "told").read_text() == (
        f"the checkpoint of step 200 cannot be written to {output}: File too large; make room or make it writable, "
        "then run again: the checkpoint of step 100 is complete."
    )
    assert hidden_in(output) == []
    assert steps_in(output) == [100]


def test_the_checkpoint_that_an_error_calls_whole_is_whole(tmp_path: Path) -> None:
    def missing(folder: Path) -> None:
        shutil.copyfile(tmp_path / "vocab.txt", folder / "vocab.txt")

    with Checkpoints(tmp_path / "output", IDENTITY) as store:
        add(store, 100, 200)
        truncate(tmp_path / "output" / "step-000000200" / "config.json")
        with pytest.raises(CheckpointError) as error:
            store.save(300, {}, missing)
    assert f"No such file or directory ({tmp_path}/vocab.txt)" in str(error.value)
    assert "the checkpoint of step 100 is complete" in str(error.value)


def open_without_rights(directory: str) -> None:
    if os.geteuid() == 0:
        os.setuid(65534)
    try:
        Checkpoints(Path(directory), IDENTITY)
    except CheckpointError as error:
        print(error, flush=True)


def test_a_folder_without_the_right_to_write_is_refused_at_the_start(zygote: Zygote) -> None:
    # Not below tmp_path, which another user may not enter.
    with tempfile.TemporaryDirectory() as name:
        used = Path(name, "used")
        used.mkdir()
        (used / ".lock").touch()
        (used / ".lock").chmod(0o666)
        used.chmod(0o555)
        os.chmod(name, 0o555)
        for directory in (name, f"{name}/new", used):
            zygote.start(open_without_rights, directory)
            assert zygote.line() == (
                f"checkpoints cannot be written to {directory}: Permission denied; choose another --output."
            )
            assert zygote.end() == 0
        used.chmod(0o755)
        os.chmod(name, 0o755)


def test_a_file_in_place_of_the_folder_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(
        CheckpointError, match=r"cannot be written to .*/file: it is not a folder; choose another --output"
    ):
        Checkpoints(tmp_path / "file", IDENTITY)
    with pytest.raises(
        CheckpointError, match=r"cannot be written to .*/file/output: Not a directory; choose another --output"
    ):
        Checkpoints(tmp_path / "file" / "output", IDENTITY)
    assert Checkpoints(tmp_path / "none", IDENTITY, writer=False).latest() is None
    assert not (tmp_path / "none").exists()


# Two runs


def test_only_one_run_writes_to_a_folder(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, IDENTITY) as first:
        with pytest.raises(CheckpointError, match=r"another run writes its checkpoints to .*; wait for it or choose"):
            Checkpoints(tmp_path, IDENTITY)
        add(first, 100)
        assert Checkpoints(tmp_path, IDENTITY, writer=False).latest().step == 100
    with Checkpoints(tmp_path, IDENTITY) as second:
        add(second, 200)
    assert steps_in(tmp_path) == [100, 200]


def close_with_a_process_forked(directory: str) -> None:
    store = Checkpoints(Path(directory), IDENTITY)
    reading, writing_end = os.pipe()
    if not (child := os.fork()):
        os.close(writing_end)
        os.read(reading, 1)
        os._exit(0)
    store.close()
    Checkpoints(Path(directory), IDENTITY).close()
    os.close(writing_end)
    os.waitpid(child, 0)


def test_a_folder_is_free_after_close_though_forked_processes_live(tmp_path: Path, zygote: Zygote) -> None:
    assert zygote.run(close_with_a_process_forked, tmp_path) == 0


def test_a_file_system_without_locks_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with caplog.at_level(logging.WARNING), Checkpoints(tmp_path, IDENTITY) as store:
        add(store, 100)
        assert store.latest().step == 100
    assert (
        f"{tmp_path} cannot be locked (No locks available); make sure that only one run writes there."
        in caplog.messages
    )
