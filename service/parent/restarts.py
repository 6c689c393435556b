"""When a failed process is restarted, and after how many failures it is given up."""

from __future__ import annotations

FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 10.0
# After this much service, earlier failures no longer count.
STABLE_SECONDS = 60.0


class Restarts:
    """The failures of one process in a row."""

    def __init__(self, most: int) -> None:
        """The process is given up after `most` restarts in a row; 0: never."""
        self._most = most
        self._delay = FIRST_DELAY_SECONDS
        self.failures = 0

    def delay(self, served_seconds: float) -> float | None:
        """Seconds to wait before a process is restarted that failed after `served_seconds` of service.

        The delay doubles with every failure. None: the process is given up.
        """
        if served_seconds > STABLE_SECONDS:
            self._delay, self.failures = FIRST_DELAY_SECONDS, 0
        self.failures += 1
        if 0 < self._most < self.failures:
            return None
        delay, self._delay = self._delay, min(2 * self._delay, LONGEST_DELAY_SECONDS)
        return delay
