"""When a failed process is restarted, and how many failures end the restarts."""

from __future__ import annotations

FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 10.0
# After this much service, earlier failures no longer count.
STABLE_SECONDS = 60.0


class Restarts:
    """The consecutive failures of one process."""

    def __init__(self, most: int) -> None:
        """The limit is `most` restarts in a row; 0: no limit."""
        self._most = most
        self._delay = FIRST_DELAY_SECONDS
        self.failures = 0

    def delay(self, served_seconds: float) -> float | None:
        """Seconds before the restart of a process that failed after `served_seconds` of service.

        The delay doubles with every failure. None: the limit is reached, the process is not restarted.
        """
        if served_seconds > STABLE_SECONDS:
            self._delay, self.failures = FIRST_DELAY_SECONDS, 0
        self.failures += 1
        if 0 < self._most < self.failures:
            return None
        delay, self._delay = self._delay, min(2 * self._delay, LONGEST_DELAY_SECONDS)
        return delay
