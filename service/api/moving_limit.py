"""A time limit that is moved for every request, at little cost."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable


class MovingLimit:
    """Calls `expired` at the time `until`.

    The timer is replaced only if it would fire too late: two timers per request would cost more than checking the clock
    sometimes.
    """

    __slots__ = ("_due", "_expired", "_loop", "_timer", "until")

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[], None]) -> None:
        self._loop = loop
        self._expired = expired
        self._timer: asyncio.TimerHandle | None = None
        self._due = math.inf
        self.until = math.inf
        """A time of the loop. It may be moved later at any time."""

    def limit(self, seconds: float) -> None:
        """Sets the time limit to `seconds` from now."""
        self.until = self._loop.time() + seconds
        self._watch()

    def stop(self) -> None:
        """Ends the time limit and the timer."""
        self._expired = _nothing  # otherwise this object and its owner would keep each other in memory
        self.until = self._due = math.inf
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _watch(self) -> None:
        if self.until < self._due:
            if self._timer:
                self._timer.cancel()
            self._timer, self._due = self._loop.call_at(self.until, self._look), self.until

    def _look(self) -> None:
        self._timer, self._due = None, math.inf
        if self._loop.time() >= self.until:
            self._expired()
        else:
            self._watch()


def _nothing() -> None:
    pass
