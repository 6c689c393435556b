"""The number of cores for this process. In a container it is smaller than the number of cores of the machine."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path


def cores(memberships: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> int:
    """The number of cores that this process may use: limited by its affinity and by CPU quotas, rounded up.

    More threads than the quota do not run faster: together they use up the quota, and then all of them wait for its
    next period. `memberships` and `root` are paths as in cgroups(7), version 1 or 2.
    """
    quotas = [quota for group in _groups(memberships, root) if (quota := _quota(group))]
    return max(1, min([len(os.sched_getaffinity(0)), *map(math.ceil, quotas)]))


def _groups(memberships: Path, root: Path) -> Iterator[Path]:
    """The control groups that may have a CPU quota for this process, with their parents."""
    with contextlib.suppress(OSError):
        for line in memberships.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            hierarchy = root / controllers if controllers else root
            if controllers and "cpu" not in controllers.split(","):
                continue
            # In a container the path may be the path on the host, while the group itself is mounted at the root.
            group = hierarchy / path.strip("/")
            yield from (each for each in (group, *group.parents) if each.is_relative_to(hierarchy))


def _quota(group: Path) -> float | None:
    """The quota in cores; None if there is no limit."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        return int(quota) / int(period)  # "max" is not a number
    with contextlib.suppress(OSError, ValueError):
        quota, period = ((group / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    return None
