"""Files of metrics: sums over processes, ended processes, and folders that are full, missing or foreign."""

import contextlib
import json
import logging
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.metric_files import ENDED, ValueFiles, entries

KEYS = [json.dumps([f"ernie_{name}", f"ernie_{name}_total", {"model": "m"}, "text"]) for name in "abcdefgh"]


def process(folder: Path, name: str, count: float = 1.0, gauge: float = 1.0) -> ValueFiles:
    """The files of one process that has counted each key."""
    files = ValueFiles(folder, name)
    for key in KEYS:
        table = files.table("counter")
        table.write(table.add(key), count)
    live = files.table("gauge_livesum")
    live.write(live.add("gauge"), gauge)
    return files


def test_the_sum_is_over_all_processes_and_the_own_values_come_from_memory(tmp_path: Path) -> None:
    own = process(tmp_path, "1")
    process(tmp_path, "2", 5.0)
    own.table("counter").write(own.table("counter").add("new"), 3.0)
    assert own.totals()["counter", KEYS[0]] == 6.0
    assert own.totals()["counter", "new"] == 3.0
    assert own.totals()["gauge_livesum", "gauge"] == 2.0


def test_ten_thousand_ended_processes_leave_one_file_of_each_kind_and_no_count_falls(tmp_path: Path) -> None:
    """The files of 10,000 ended processes, without the processes. Before, every one of them stayed and was read."""
    parent = process(tmp_path, "1")
    template = process(tmp_path, "2")
    content = (tmp_path / "counter_2.db").read_bytes()[: 1 << 12]
    template.end("2")
    before = parent.totals()
    assert "gauge_livesum_2.db" not in os.listdir(tmp_path)
    for start in range(10, 10_010, 500):
        names = [str(number) for number in range(start, start + 500)]
        for name in names:
            (tmp_path / f"counter_{name}.db").write_bytes(content)
        parent._ended.update(names[1:])
        parent.end(names[0])
        after = parent.totals()
        assert all(after[key] >= before[key] for key in before)
        before = after
    assert before["counter", KEYS[0]] == 10_002.0
    assert sorted(os.listdir(tmp_path)) == [f"counter_{1}.db", f"counter_{ENDED}.db", "gauge_livesum_1.db"]
    assert (tmp_path / f"counter_{ENDED}.db").stat().st_size < 1 << 12
    begun = time.thread_time()
    parent.totals()
    assert time.thread_time() - begun < 0.05


def test_a_removed_folder_is_created_again_with_all_counts(tmp_path: Path) -> None:
    folder = tmp_path / "ernie"
    folder.mkdir()
    own, other = process(folder, "1"), process(folder, "2", 4.0)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    own.table("counter").add("counted meanwhile")
    assert own.totals()["counter", KEYS[0]] == 1.0
    own.restore()
    other.restore()
    assert own.totals()["counter", KEYS[0]] == 5.0
    assert folder.stat().st_mode & 0o777 == 0o700


def test_files_removed_one_by_one_by_age_are_written_again(tmp_path: Path) -> None:
    own, other = process(tmp_path, "1"), process(tmp_path, "2")
    (tmp_path / "counter_2.db").unlink()
    assert own.totals()["counter", KEYS[0]] == 1.0
    other.restore()
    assert own.totals()["counter", KEYS[0]] == 2.0


def test_a_damaged_file_is_read_up_to_the_damage(tmp_path: Path) -> None:
    own = process(tmp_path, "1")
    for name, content in {"3": b"", "4": b"\xff" * 100, "5": (tmp_path / "counter_1.db").read_bytes()[:300]}.items():
        (tmp_path / f"counter_{name}.db").write_bytes(content)
    assert own.totals()["counter", KEYS[0]] == 2.0
    assert list(entries(b"\x10")) == []


@contextlib.contextmanager
def no_room(folder: Path) -> Iterator[None]:
    """A stand-in for a full disk: files may not grow. SIGXFSZ is ignored by Python, so a write fails with EFBIG."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_without_room_a_process_counts_in_memory_and_writes_its_counts_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own, reader = process(tmp_path, "1"), process(tmp_path, "2")
    with caplog.at_level(logging.INFO), no_room(tmp_path):
        for number in range(1000):  # more than the file holds
            table = own.table("counter")
            table.write(table.add(f"key {number}".ljust(100)), 1.0)
        late = process(tmp_path, "3", 7.0)  # a process that starts now
        reader.end("9")
        assert own.totals()["counter", "key 999".ljust(100)] == 1.0
        assert late.totals()["counter", KEYS[0]] == 9.0
        assert reader.totals()["counter", KEYS[0]] == 2.0
        own.restore()
    (sentence,) = [record.getMessage() for record in caplog.records]
    assert sentence.startswith(f"metrics are counted in memory only, because the folder {tmp_path} cannot be written: ")
    assert sentence.endswith("; make room in it, or set TMPDIR to another folder and restart the service.")
    with caplog.at_level(logging.INFO):
        own.restore()
        late.restore()
    assert f"the metrics are written to {tmp_path} again" in caplog.text
    assert reader.totals()["counter", "key 999".ljust(100)] == 1.0
    assert reader.totals()["counter", KEYS[0]] == 9.0
    assert not list(tmp_path.glob("*.new"))


FILLS = """
import os, pathlib, sys
folder = pathlib.Path(sys.argv[1])
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
from service.metrics import Metrics
with open(folder / "filling", "wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(1 << 16))
    except OSError as error:
        print(error.strerror)
metrics = Metrics([])
for number in range(2000):
    metrics.answered("/classify", f"model {number}", 200).inc()
lines = metrics.text().decode().splitlines()
print(sum('code="200"' in line and 'model="model ' in line for line in lines))
"""


def test_a_full_file_system_kills_no_process(tmp_path: Path) -> None:
    """Before, the process that counted died with SIGBUS."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small tmpfs; run the test as root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small tmpfs cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        done = subprocess.run([sys.executable, "-c", FILLS, str(tmp_path)], capture_output=True, text=True, timeout=60)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["No space left on device", "2000"]
    assert "metrics are counted in memory only" in done.stderr


def test_a_folder_of_another_user_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    own = process(tmp_path, "1")
    assert own.totals()["counter", KEYS[0]] == 1.0
    assert not os.listdir(tmp_path)
