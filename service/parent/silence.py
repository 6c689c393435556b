"""How long a child process has been silent."""

from __future__ import annotations


class Silence:
    """The seconds since a process was last heard, without those in which this process did not run either.

    Without that, a parent that was stopped for a minute would kill all of its children.
    """

    def __init__(self, every: float, now: float) -> None:
        """`seconds` is called at least every `every` seconds while this process runs."""
        self._most = 2 * every
        self._seconds = 0.0
        self._now = now
        self.heard_once = False

    def heard(self) -> None:
        """The process has sent a message."""
        self._seconds, self.heard_once = 0.0, True

    def seconds(self, now: float) -> float:
        """The length of the silence at the time `now` of a monotonic clock."""
        self._seconds += min(now - self._now, self._most)
        self._now = now
        return self._seconds
