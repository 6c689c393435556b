"""Checkpoints: whole or not there at all, whatever kills the run, fills the disk or damages a file."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import math
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
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.runs import checkpoints
from training.runs.checkpoints import CheckpointError, Checkpoints, ResumeError, SavedCheckpoint, differences

IDENTITY = {
    "settings": {"learning_rate": 0.001, "seed": 1, "betas": [0.9, 0.98]},
    "corpora": [{"tokens": 100, "sha256": "ab"}, {"tokens": 7, "sha256": "cd"}],
    "vocabulary": "ef",
}
FILES = ["config.json", "model_state.pdparams", *(f"optimizer/part-{number:02}" for number in range(6))]


def content(step: int, name: str) -> bytes:
    return f"{name} of step {step}\n".encode() * 40


def writing(step: int, told: Callable[[], object] = lambda: None) -> Callable[[Path], None]:
    """What `save` is given for a step; `told` is called after every file."""

    def write(folder: Path) -> None:
        (folder / "optimizer").mkdir()
        for name in FILES:
            (folder / name).write_bytes(content(step, name))
            told()

    return write


def state(step: int) -> dict[str, Any]:
    return {"samples": step * 8, "loss_scale": 32768.0}


def add(store: Checkpoints, *steps: int) -> None:
    for step in steps:
        store.save(step, state(step), writing(step))


def steps_in(directory: Path) -> list[int]:
    return sorted(int(path.name[5:]) for path in directory.glob("step-*"))


def hidden_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob(".*") if path.name != ".lock")


def assert_whole(directory: Path) -> None:
    """All that bears a final name has every file of its step and no other."""
    for folder in directory.glob("step-*"):
        step = int(folder.name[5:])
        assert json.loads((folder / "training.json").read_text())["state"] == state(step)
        found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        assert sorted(found) == sorted([*FILES, "training.json"])
        for name in FILES:
            assert found[name].read_bytes() == content(step, name)


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    output = tmp_path / "new" / "output"
    with Checkpoints(output, IDENTITY) as store:
        assert store.latest() is None
        saved = store.save(1200, {"seen": (1, 2), "best": math.inf, "name": "模型\udcff"}, writing(1200))
        assert store.latest() == saved
    assert saved == SavedCheckpoint(
        output / "step-000001200", 1200, {"seen": [1, 2], "best": math.inf, "name": "模型\udcff"}
    )
    for name in FILES:
        assert (saved.directory / name).read_bytes() == content(1200, name)
    assert Checkpoints(output, IDENTITY, writer=False).latest() == saved
    assert hidden_in(output) == []


def test_a_name_of_ten_digits_is_newer_than_one_of_nine(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, IDENTITY) as store:
        add(store, 999_999_999, 1_000_000_000)
        assert store.latest().step == 1_000_000_000


def test_what_can_not_be_right_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for wrong in ({"keep": 0}, {"milestone_every": -1}):
        with pytest.raises(ValueError, match="keep must be at least 1 and milestone_every at least 0"):
            Checkpoints(tmp_path, IDENTITY, **wrong)
    with Checkpoints(tmp_path, IDENTITY) as store:
        with pytest.raises(ValueError, match="step -1 is negative"):
            add(store, -1)
        with pytest.raises(TypeError, match="not JSON serializable"):
            store.save(1, {"path": tmp_path}, writing(1))
        with pytest.raises(ValueError, match=r"training\.json is reserved for the description of the checkpoint"):
            store.save(1, {}, lambda folder: (folder / "training.json").touch())
    with pytest.raises(RuntimeError, match="open for reading only"):
        add(store, 1)
    with pytest.raises(RuntimeError, match="open for reading only"):
        add(Checkpoints(tmp_path, IDENTITY, writer=False), 1)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_files_are_handled_without_paddle() -> None:
    code = "import sys, training.runs.checkpoints; sys.exit('paddle' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(checkpoints.__file__).parents[2]).returncode == 0


def test_the_newest_and_the_milestones_stay(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, IDENTITY, keep=2, milestone_every=300) as store:
        add(store, *range(100, 900, 100))
    assert steps_in(tmp_path) == [300, 600, 700, 800]
    assert hidden_in(tmp_path) == []
    with Checkpoints(tmp_path, IDENTITY, keep=1) as store:
        add(store, 900)
    assert steps_in(tmp_path) == [900]


def test_checkpoints_beyond_the_step_that_is_saved_stay_and_count_for_nothing(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, IDENTITY, keep=9) as store:
        add(store, 100, 500, 600, 700)
    with Checkpoints(tmp_path, IDENTITY, keep=2) as store:
        add(store, 150, 200)
    assert steps_in(tmp_path) == [150, 200, 500, 600, 700]


def test_a_step_that_is_there_is_kept_and_not_written_again(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, IDENTITY) as store:
        add(store, 100)
        again = store.save(100, {"samples": -1}, lambda folder: pytest.fail("it was written again"))
    assert again == SavedCheckpoint(tmp_path / "step-000000100", 100, state(100))
    assert_whole(tmp_path)
    with Checkpoints(tmp_path, {}) as other, pytest.raises(ResumeError, match="vocabulary was "):
        add(other, 100)
    assert_whole(tmp_path)


def test_all_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.rename

    def recorded(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        # A folder is synced when all its entries are there; what a file held then is what it holds in the end.
        events.append(
            ("sync", f"{path.relative_to(tmp_path)}:{len(list(path.iterdir())) if path.is_dir() else 'file'}")
        )
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    monkeypatch.setattr(os, "rename", lambda old, new: (events.append(("rename", Path(new).name)), rename(old, new)))
    with Checkpoints(tmp_path, IDENTITY, keep=1) as store:
        add(store, 100)
        (aside,) = {path.split("/")[0] for event, path in events if "/" in path}
        assert re.fullmatch(r"\.step-000000100\.[0-9a-f]{8}\.writing", aside)
        assert events[-3:-1] == [("rename", "step-000000100"), ("sync", ".:2")]
        before = [path for event, path in events[:-3] if event == "sync"]
        assert sorted(before[:-2]) == sorted([*(f"{aside}/{name}:file" for name in FILES), f"{aside}/optimizer:6"])
        assert before[-2:] == [f"{aside}/training.json:file", f"{aside}:4"]
        events.clear()
        add(store, 200)
    # A checkpoint has lost its name for good before anything of it is gone.
    assert events[-2:] == [("rename", ".step-000000100.removing"), ("sync", ".:3")]


# Damage


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


@pytest.mark.parametrize("name", ["model_state.pdparams", "optimizer/part-03", "training.json"])
@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path: flip(path, 100), "does not match its|is not JSON"),
        (truncate, "bytes, but should have|is not JSON"),
        (lambda path: path.write_bytes(b""), "has 0 bytes, but should have|is not JSON"),
        (lambda path: path.unlink(), "is absent"),
        (lambda path: (path.unlink(), path.mkdir()), "bytes, but should have|cannot be read: Is a directory"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, damage: Callable[[Path], object], told: str
) -> None:
    with Checkpoints(tmp_path, IDENTITY) as store:
        add(store, 100, 200)
        path = tmp_path / "step-000000200" / name
        if damage is truncate and name == "training.json":
            truncate(path)  # the newline, which is no damage
        damage(path)
        assert store.latest() == SavedCheckpoint(tmp_path / "step-000000100", 100, state(100))
    (warning,) = caplog.messages
    assert warning.startswith(f"the checkpoint {path.parents[name.count('/')]} is damaged and is skipped: {path} ")
    assert any(part in warning for part in told.split("|"))


def test_no_flipped_bit_of_a_description_gives_another_state(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Checkpoints(tmp_path, IDENTITY) as store:
        add(store, 100, 200)
        path = tmp_path / "step-000000200" / "training.json"
        good, rng, passed_over = path.read_bytes(), random.Random(1), 0
        for bit in rng.sample(range(len(good) * 8), 300):
            flip(path, bit)
            caplog.clear()
            found = store.latest()
            if found.step == 100:
                passed_over += 1
                assert f"{path} " in caplog.text
            else:
                # A blank became another blank, or a digit changed that no float can show.
                assert found == SavedCheckpoint(tmp_path / "step-000000200", 200, state(200))
            path.write_bytes(good)
    assert passed_over > 200


def test_a_folder_under_the_name_of_another_step_is_no_checkpoint_of_that_step(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Checkpoints(tmp_path, IDENTITY) as store:
        add(store, 100)
        shutil.copytree(tmp_path / "step-000000100", tmp_path / "step-000000900")
        assert store.latest().step == 100
    assert "training.json is of step 100" in caplog.text


def test_nothing_but_damaged_checkpoints_is_an_error_and_not_a_new_start(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, IDENTITY) as store:
        add(store, 100, 200)
        for step in (100, 200):
            truncate(tmp_path / f"step-{step:09d}" / "config.json")
        with pytest.raises(CheckpointError, match=r"all 2 checkpoints in .* are damaged, the newest is .*200;"):
            store.latest()


def test_a_damaged_checkpoint_is_replaced_when_the_run_comes_to_its_step(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, IDENTITY) as store:
        add(store, 100)
        truncate(tmp_path / "step-000000100" / "config.json")
        add(store, 100)
        assert store.latest().step == 100
        add(store, 200)
    assert steps_in(tmp_path) == [100, 200]
    assert_whole(tmp_path)
    assert hidden_in(tmp_path) == []


def test_damaged_checkpoints_do_not_count_among_those_kept(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, IDENTITY, keep=4) as store:
        add(store, 100, 200, 300, 400)
    for step in (200, 400):
        truncate(tmp_path / f"step-{step:09d}" / "config.json")
    truncate(tmp_path / "step-000000300" / "training.json")
    (tmp_path / "step-000000300" / "training.json").write_text("{}")
    with Checkpoints(tmp_path, IDENTITY, keep=2) as store:
        assert store.latest().step == 100
        add(store, 250)
    assert steps_in(tmp_path) == [100, 250]
    assert_whole(tmp_path)


def test_an_unknown_format_is_an_error_and_not_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Checkpoints(tmp_path, IDENTITY) as store:
        add(store, 100)
        monkeypatch.setattr(checkpoints, "FORMAT", 99)
        add(store, 200)
        monkeypatch.undo()
        with pytest.raises(CheckpointError, match=r"step-000000200/training\.json has the format 99, but this version"):
            store.latest()


# Identity


def changed(identity: dict[str, Any], **values: Any) -> dict[str, Any]:
    return {**json.loads(json.dumps(identity)), **values}


def test_all_differences_to_the_run_before_are_shown(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, IDENTITY) as store:
        add(store, 200)
    other = changed(IDENTITY, settings={"learning_rate": 0.002, "seed": 1, "betas": (0.9, 0.98), "clip": None})
    other["corpora"] = [{"tokens": 120, "sha256": "ab"}]
    with pytest.raises(ResumeError) as error:
        Checkpoints(tmp_path, other, writer=False).latest()
    assert str(error.value) == (
        f"the checkpoint {tmp_path}/step-000000200 was made with other settings: "
        "settings.learning_rate was 0.001 and is now 0.002; settings.clip was absent and is now null; "
        "corpora.0.tokens was 100 and is now 120; corpora.1.tokens was 7 and is now absent; "
        'corpora.1.sha256 was "cd" and is now absent; choose another --output, or give the same settings.'
    )


def test_identities_that_say_the_same_are_the_same(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, {"levels": ((1, 0.0),), "sizes": {1: 2}}) as store:
        add(store, 1)
    assert Checkpoints(tmp_path, {"sizes": {"1": 2}, "levels": [[1.0, 0]]}, writer=False).latest().step == 1


def test_of_many_differences_the_first_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, {f"k{n}": 0 for n in range(50)}) as store:
        add(store, 200)
    with pytest.raises(ResumeError, match=r"k19 was 0 and is now 1; and 30 more; choose another --output") as error:
        Checkpoints(tmp_path, {f"k{n}": 1 for n in range(50)}, writer=False).latest()
    assert "k20" not in str(error.value)


KEYS = st.text("abc", min_size=1, max_size=2)
LEAVES = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text("xyz", max_size=3)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))
DOCUMENTS = st.dictionaries(KEYS, VALUES, max_size=4)


def at(document: Any, key: str) -> str:
    """The value at a key with dots as JSON, or "absent"."""
    for name in key.split("."):
        if isinstance(document, dict) and name in document:
            document = document[name]
        elif isinstance(document, list) and name.isdigit() and int(name) < len(document):
            document = document[int(name)]
        else:
            return "absent"
    text = json.dumps(document)
    return text if len(text) <= 80 else text[:77] + "…"


@given(DOCUMENTS, DOCUMENTS)
def test_differences_are_all_there_is_between_two_documents(one: dict[str, Any], other: dict[str, Any]) -> None:
    found = differences(one, other)
    assert bool(found) == (one != other)
    assert sorted(found) == sorted((key, now, was) for key, was, now in differences(other, one))
    assert len({key for key, _, _ in found}) == len(found)
    for key, was, now in found:
        assert (was, now) == (at(one, key), at(other, key))
    assert differences(one, one) == []


@given(DOCUMENTS, KEYS, st.lists(KEYS, max_size=3))
def test_one_changed_value_is_one_difference(document: dict[str, Any], top: str, path: list[str]) -> None:
    one, other = changed(document), changed(document)
    for copy, value in ((one, 1), (other, 2)):
        nested: Any = value
        for name in reversed(path):
            nested = [None, {name: nested}]
        copy[top] = nested
    assert differences(one, other) == [(".".join([top, *(f"1.{name}" for name in path)]), "1", "2")]


# Kills


class Zygote:
    """A process with everything imported that forks one child at a time, so that an attempt costs no start."""

    SERVE = """
import json, os, sys, traceback
sys.path.insert(0, sys.argv[1])
import test_checkpoints
for line in sys.stdin:
    name, *arguments = json.loads(line)
    child = os.fork()
    if not child:
        print("started", os.getpid(), flush=True)
        try:
            getattr(test_checkpoints, name)(*arguments)
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
