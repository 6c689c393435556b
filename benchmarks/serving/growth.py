"""Resident memory of the service's processes over time, and whether a process has grown."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from benchmarks.rounds import median
from benchmarks.serving.service import Service

MAX_GROWTH = 0.02


class Memory:
    """Samples of every process; of several with one name the largest."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._begun = time.monotonic()
        self.samples: dict[str, list[tuple[float, int]]] = {}
        """Seconds since the start and resident bytes."""

    async def watch(self, ended: asyncio.Event, every_seconds: float) -> None:
        """Takes samples until the event."""
        while not await happened(ended, every_seconds):
            now = time.monotonic() - self._begun
            for name, sizes in self._service.memory().items():
                self.samples.setdefault(name, []).append((now, max(sizes)))

    def report(self, warm_up: float, show: Callable[[str], None] = print) -> list[str]:
        """Shows what each process had after `warm_up` seconds and at the end; returns a sentence for each that grew."""
        grown = []
        for name, samples in sorted(self.samples.items()):
            first, last = growth(samples, warm_up)
            show(f"  {name:12} {first:8.1f} {last:8.1f} {last / first - 1:+8.2%}")
            if last / first - 1 > MAX_GROWTH:
                grown.append(f"{name} has grown by {last / first - 1:.1%}")
        return grown


def growth(samples: list[tuple[float, int]], since: float) -> tuple[float, float]:
    """Median megabytes of the first and of the last tenth of the time after `since`."""
    counted = [size / 1e6 for at, size in samples if at >= since]
    tenth = max(1, len(counted) // 10)
    return median(counted[:tenth]), median(counted[-tenth:])


async def happened(event: asyncio.Event, seconds: float) -> bool:
    """Waits for the event, for `seconds` at most; whether it came."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except asyncio.TimeoutError:
        return False
    return True
