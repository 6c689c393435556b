"""Timing of things that take turns, so that a change of the machine meets all of them alike.

Times are CPU seconds of this process: what is compared here runs on one thread, and then they are the seconds that it
would take alone on a core, whatever else the machine does.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)
ROUND_SECONDS = 0.05
"""Shorter calls are repeated to fill this much of a round."""


def alternate(calls: Mapping[Name, Callable[[], object]], rounds: int) -> dict[Name, list[float]]:
    """CPU seconds of one call of each, by round; every call is made once before."""
    for call in calls.values():
        call()
    repeats = {name: max(1, round(ROUND_SECONDS / max(_timed(call, 1), 1e-6))) for name, call in calls.items()}
    seconds: dict[Name, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            seconds[name].append(_timed(call, repeats[name]))
    return seconds


def ratio(slow: list[float], fast: list[float]) -> float:
    """How many times as fast, the median over rounds of the ratio within one."""
    return statistics.median(one / other for one, other in zip(slow, fast, strict=True))


def _timed(call: Callable[[], object], repeats: int) -> float:
    begun = time.process_time()
    for _ in range(repeats):
        call()
    return (time.process_time() - begun) / repeats
