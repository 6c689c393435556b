"""How many cores there are for this process, which in a container is not what the machine has."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path


def cores(memberships: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> int:
    """Those this process may run on, and no more than the CPU quotas of its control groups pay for, rounded up.

    Threads beyond a quota do not run beside each other: they use it up together, and all stand still until its next
    period. `memberships` and `root` are as in cgroups(7), version 1 or 2.
    """
    quotas = [quota for group in _groups(memberships, root) if (quota := _quota(group))]
    return max(1, min([len(os.sched_getaffinity(0)), *map(math.ceil, quotas)]))


def _groups(memberships: Path, root: Path) -> Iterator[Path]:
    """The groups that may hold a CPU quota for this process, each with all that are above it."""
    with contextlib.suppress(OSError):
        for line in memberships.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            hierarchy = root / controllers if controllers else root
            if controllers and "cpu" not in controllers.split(","):
                continue
            # In a container the path may be the host's, and the group itself be mounted at the root.
            group = hierarchy / path.strip("/")
            yield from (each for each in (group, *group.parents) if each.is_relative_to(hierarchy))


def _quota(group: Path) -> float | None:
    """Cores' worth of time in a period; None where there is no limit."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        return int(quota) / int(period)  # "max" is no number
    with contextlib.suppress(OSError, ValueError):
        quota, period = ((group / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    return None
