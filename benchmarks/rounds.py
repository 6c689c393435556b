"""Rounds in which the compared things take turns, so that a change of the machine affects all of them alike.

Printed is `median (lowest–highest)` over the rounds. A ratio is taken within each round.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from tqdm import tqdm

Name = TypeVar("Name", bound=Hashable)
T = TypeVar("T")
LEAST_SECONDS = 0.05
"""A shorter call is repeated until it has taken this long."""


def alternate(
    calls: Mapping[Name, Callable[[], T]], rounds: int, *, warm_up: Callable[[], object] | None = None
) -> dict[Name, list[T]]:
    """What each call returned, by round. Every second round runs in reverse order. `warm_up` runs once before."""
    if warm_up:
        warm_up()
    found: dict[Name, list[T]] = {name: [] for name in calls}
    with progress(total=rounds * len(calls), unit="turn") as bar:
        for number in range(rounds):
            for name in reversed(list(calls)) if number % 2 else list(calls):
                bar.set_description(str(name))
                found[name].append(calls[name]())
                bar.update()
    return found


def progress(items: Iterable[T] | None = None, total: float | None = None, unit: str = "it") -> tqdm[T]:
    """A bar with the rate and the time left, on a terminal only."""
    return tqdm(items, total=total, unit=unit, disable=None, file=sys.stderr, leave=False)


def cpu_seconds(call: Callable[[], object]) -> Callable[[], float]:
    """A call that returns the CPU seconds of this process for one run of `call`.

    On one thread these are the seconds that it would take alone on a core, whatever else the machine does.
    """
    call()
    repeats = max(1, round(LEAST_SECONDS / max(_seconds(call, 1, time.process_time), 1e-6)))
    return lambda: _seconds(call, repeats, time.process_time)


def seconds(call: Callable[[], object]) -> Callable[[], float]:
    """A call that returns the seconds that one run of `call` takes."""
    return lambda: _seconds(call, 1, time.perf_counter)


def _seconds(call: Callable[[], object], repeats: int, clock: Callable[[], float]) -> float:
    begun = clock()
    for _ in range(repeats):
        call()
    return (clock() - begun) / repeats


def ratios(left: Sequence[float], right: Sequence[float]) -> list[float]:
    """Left over right, within each round."""
    return [one / other for one, other in zip(left, right, strict=True)]


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` of them do not exceed; 0 without values."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(len(ranked) * percent / 100))] if ranked else 0.0


def median(values: Iterable[float]) -> float:
    """0 without values."""
    found = list(values)
    return statistics.median(found) if found else 0.0


def spread(values: Iterable[float], unit: str = "") -> str:
    """`median unit (lowest–highest)`; only the value where there is one."""
    found = sorted(values)
    middle = f"{number(median(found))}{unit}"
    return f"{middle} ({number(found[0])}–{number(found[-1])})" if len(found) > 1 else middle


def number(value: float) -> str:
    """Three significant digits, or all digits before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; the first column is aligned to the left, the others to the right."""
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
