"""Long work on the event loop in short turns, so that other requests run between."""

from __future__ import annotations

import asyncio
import time

TURN_SECONDS = 0.005


class Turn:
    """The time that one piece of work may use before others run."""

    def __init__(self) -> None:
        self._end = time.perf_counter() + TURN_SECONDS

    async def pause(self) -> None:
        """Called often during the work: lets others run if the time of the turn has passed."""
        if time.perf_counter() >= self._end:
            await asyncio.sleep(0)
            self._end = time.perf_counter() + TURN_SECONDS
