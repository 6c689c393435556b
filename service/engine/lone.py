"""The rule for lone requests: when requests come one at a time, no second thread is woken to wait for the next one."""

from __future__ import annotations

# After this many passes in a row during which nothing arrived, the next pass is likely to be alone, too.
PASSES_ALONE = 16
# If that turns out wrong, a new request waits for the pass. So the passes before must have been this short, and the
# next one must have no more tokens than they.
SHORT_PASS_SECONDS = 0.01


class LonePasses:
    """The recent passes, as far as they tell whether a request will arrive during the next one."""

    def __init__(self) -> None:
        self._passes = 0
        """Short passes since a request last arrived during one."""
        self._tokens = 0
        """Tokens of the largest of them, padding included."""

    def interrupted(self) -> None:
        """A request has arrived during a pass."""
        self._passes = self._tokens = 0

    def finished(self, seconds: float, tokens: int) -> None:
        """A pass has finished."""
        if seconds >= SHORT_PASS_SECONDS:
            self._passes = self._tokens = 0
        else:
            self._passes += 1
            self._tokens = max(self._tokens, tokens)

    def expected(self, tokens: int) -> bool:
        """Whether a pass of `tokens` that starts now is likely to be short, and to finish before the next request."""
        return self._passes >= PASSES_ALONE and tokens <= self._tokens
