"""Environment variables of Paddle's CPU kernels, which must be set before Paddle is imported."""

from __future__ import annotations

import os
from pathlib import Path


def prepare() -> None:
    """Sets defaults for the number of threads, and for MKL on AMD processors; variables that are set are kept.

    Paddle sets OMP_NUM_THREADS=1 if it is unset, and its MKL uses a slow code path on AMD processors (matrix product 54
    instead of 145 GFLOP/s on two cores).
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file() and "AuthenticAMD" in cpuinfo.read_text():
        os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "5")
