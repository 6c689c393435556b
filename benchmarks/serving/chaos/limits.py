"""A small temporary folder that can be filled, and limits of memory and file descriptors of a running process."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil

FOLDER_MEGABYTES = 16
# A process in the group may still take this much new memory: less than a forward pass of a small model may need.
NEW_MEMORY_BYTES = 2 << 20
SPARE_DESCRIPTORS = 2
BLOCK = b"\0" * (64 << 10)


class TemporaryFolder:
    """The TMPDIR of the service. It can be filled only if it is a separate file system."""

    def __init__(self, path: Path) -> None:
        path.mkdir()
        self.path = path
        options = f"size={FOLDER_MEGABYTES}m"
        mounting = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], capture_output=True, text=True
        )
        self.reason = mounting.stderr.strip() if mounting.returncode else ""
        """Why it cannot be filled; empty if it can."""

    def fill(self) -> int:
        """Takes all free space; returns the number of bytes."""
        size = 0
        with (self.path / "filling").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                size += file.write(BLOCK)
        return size

    def empty(self) -> None:
        """Frees the space."""
        (self.path / "filling").unlink(missing_ok=True)

    def close(self) -> None:
        """Removes the file system."""
        if not self.reason:
            subprocess.run(["umount", "--lazy", str(self.path)], check=True)


@contextlib.contextmanager
def descriptors_limited(process: psutil.Process) -> Iterator[int]:
    """The process can open only SPARE_DESCRIPTORS more files; yields the limit."""
    before = process.rlimit(resource.RLIMIT_NOFILE)
    limit = process.num_fds() + SPARE_DESCRIPTORS
    process.rlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield limit
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.rlimit(resource.RLIMIT_NOFILE, before)


def memory_groups() -> Path | None:
    """The control group below which groups with a limit of memory can be made, or None."""
    for root, controllers in ((Path("/sys/fs/cgroup"), "cgroup.controllers"), (Path("/sys/fs/cgroup/memory"), "")):
        if controllers:
            with contextlib.suppress(OSError):
                if "memory" in (root / "cgroup.subtree_control").read_text().split() and os.access(root, os.W_OK):
                    return root
        elif (root / "memory.limit_in_bytes").exists() and os.access(root, os.W_OK):
            return root
    return None


@contextlib.contextmanager
def memory_limited(process: psutil.Process) -> Iterator[str]:
    """Limits the new memory of a process; yields how. The kernel kills a process that exceeds the limit of its group.

    Without control groups the size of its address space is limited, so that allocations fail.
    """
    if (root := memory_groups()) is None:
        before = process.rlimit(resource.RLIMIT_AS)
        process.rlimit(resource.RLIMIT_AS, (process.memory_info().vms + NEW_MEMORY_BYTES, before[1]))
        try:
            yield "RLIMIT_AS"
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.rlimit(resource.RLIMIT_AS, before)
        return
    own = next(
        line.rpartition(":")[2]
        for line in Path(f"/proc/{process.pid}/cgroup").read_text().splitlines()
        if ":memory:" in line or line.startswith("0::")
    )
    group = root / f"ernie-chaos-{os.getpid()}"
    group.mkdir()
    try:
        limit = next(name for name in ("memory.max", "memory.limit_in_bytes") if (group / name).exists())
        (group / limit).write_text(str(NEW_MEMORY_BYTES))
        (group / "cgroup.procs").write_text(str(process.pid))
        yield f"control group, {limit}"
    finally:
        with contextlib.suppress(OSError, psutil.NoSuchProcess):  # it was killed
            if process.is_running():
                (root / own.lstrip("/") / "cgroup.procs").write_text(str(process.pid))
        _remove(group)


def _remove(group: Path) -> None:
    with contextlib.suppress(OSError):
        group.rmdir()
