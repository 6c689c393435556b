"""Counting cores inside control groups, on trees like those that the kernel and container runtimes show."""

import os
from pathlib import Path

import pytest

from service.runtime import base, cores
from service.runtime.base import RuntimeOptions, streams_and_threads, threads_of_one


@pytest.fixture(autouse=True)
def sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))


def tree(directory: Path, memberships: str, files: dict[str, str]) -> tuple[Path, Path]:
    """`/proc/self/cgroup` and `/sys/fs/cgroup`."""
    for name, text in files.items():
        path = directory / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="ascii")
    (directory / "cgroup").write_text(memberships, encoding="ascii")
    return directory / "cgroup", directory / "fs"


@pytest.mark.parametrize(
    ("memberships", "files", "count"),
    [
        pytest.param("0::/\n", {}, 16, id="no limit at all"),
        pytest.param("0::/\n", {"cpu.max": "max 100000"}, 16, id="version 2, no limit"),
        pytest.param("0::/\n", {"cpu.max": "200000 100000"}, 2, id="version 2"),
        pytest.param("0::/\n", {"cpu.max": "150000 100000"}, 2, id="one and a half cores"),
        pytest.param("0::/\n", {"cpu.max": "10000 100000"}, 1, id="a tenth of a core"),
        pytest.param("0::/\n", {"cpu.max": "6400000 100000"}, 16, id="more than there are"),
        pytest.param(
            "0::/pod/box\n", {"pod/cpu.max": "400000 100000", "pod/box/cpu.max": "max 100000"}, 4, id="that of the pod"
        ),
        pytest.param(
            "4:memory:/pod\n3:cpu,cpuacct:/pod\n0::/pod\n",
            {"cpu,cpuacct/pod/cpu.cfs_quota_us": "300000", "cpu,cpuacct/pod/cpu.cfs_period_us": "100000"},
            3,
            id="version 1",
        ),
        pytest.param(
            "3:cpu,cpuacct:/kubepods/of/the/host\n",
            {"cpu,cpuacct/cpu.cfs_quota_us": "300000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            3,
            id="version 1, its own group mounted at the root",
        ),
        pytest.param(
            "3:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 16, id="version 1, no limit"
        ),
    ],
)
def test_a_quota_counts_like_fewer_cores(tmp_path: Path, memberships: str, files: dict[str, str], count: int) -> None:
    assert cores.cores(*tree(tmp_path, memberships, files)) == count


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    assert cores.cores(tmp_path / "none", tmp_path / "none") == 16


def test_where_one_pass_runs_at_a_time_it_leaves_one_core_to_the_api_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "cores", lambda: 4)
    assert threads_of_one(RuntimeOptions()) == 3
    assert threads_of_one(RuntimeOptions(cpu_threads=9)) == 9
    monkeypatch.setattr(base, "cores", lambda: 1)
    assert threads_of_one(RuntimeOptions()) == 1


@pytest.mark.parametrize(
    ("count", "streams", "threads", "layout"),
    [
        (1, 0, 0, (1, 1)),
        (2, 0, 0, (2, 1)),
        (8, 0, 0, (8, 1)),
        (48, 0, 0, (8, 6)),
        (4, 0, 2, (2, 2)),
        (2, 0, 4, (1, 4)),
        (4, 1, 0, (1, 4)),
        (4, 3, 0, (3, 1)),
        (4, 2, 5, (2, 5)),
    ],
)
def test_passes_beside_each_other_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, count: int, streams: int, threads: int, layout: tuple[int, int]
) -> None:
    monkeypatch.setattr(base, "cores", lambda: count)
    assert streams_and_threads(RuntimeOptions(streams=streams, cpu_threads=threads)) == layout


def test_on_a_gpu_one_pass_runs_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "cores", lambda: 16)
    assert streams_and_threads(RuntimeOptions(device="gpu"))[0] == 1
