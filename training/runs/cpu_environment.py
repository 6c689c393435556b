"""Settings of Paddle's CPU kernels that must be in the environment before Paddle is imported."""

from __future__ import annotations

import os
from pathlib import Path


def prepare() -> None:
    """Sets defaults for the thread count and for MKL on AMD processors; values already set are kept.

    Paddle sets OMP_NUM_THREADS=1 when it is unset, and its bundled MKL takes a slow path on AMD processors
    (matrix product 54 against 145 GFLOP/s on two cores).
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file() and "AuthenticAMD" in cpuinfo.read_text():
        os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "5")
