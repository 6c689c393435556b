"""Work in a separate process: Paddle and FastDeploy cannot be loaded into one."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def separately(work: Callable[..., T], *arguments: object) -> T:
    """What `work` returns in a process that does nothing else; both must be at the top of a module."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()
