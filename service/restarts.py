"""When a process that keeps ending is started again, and when it is given up."""

from __future__ import annotations

FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 10.0
# A process that has served for so long owes nothing to the failures before.
STABLE_SECONDS = 60.0


class Restarts:
    """The failures of one process in a row."""

    def __init__(self, most: int) -> None:
        """After `most` restarts in a row there is no hope; 0 hopes for ever."""
        self._most = most
        self._delay = FIRST_DELAY_SECONDS
        self.failures = 0

    def delay(self, served_seconds: float) -> float | None:
        """Seconds to wait before the next start of a process that has failed after so many seconds of service.

        They double from one failure to the next. None where it is to be given up.
        """
        if served_seconds > STABLE_SECONDS:
            self._delay, self.failures = FIRST_DELAY_SECONDS, 0
        self.failures += 1
        if 0 < self._most < self.failures:
            return None
        delay, self._delay = self._delay, min(2 * self._delay, LONGEST_DELAY_SECONDS)
        return delay
