"""The rule for lone requests: while requests arrive one at a time, no second thread is woken to wait for more."""

from __future__ import annotations

# After this many consecutive passes during which no request arrived, the next pass is likely to be alone, too.
PASSES_ALONE = 16
# If this prediction is wrong, a new request waits for the pass. Therefore the earlier passes must have been this short,
# and the next pass must not have more tokens than they had.
SHORT_PASS_SECONDS = 0.01


class LonePasses:
    """Predicts from recent passes whether a request will arrive during the next pass."""

    def __init__(self) -> None:
        self._passes = 0
        """Number of short passes since a request last arrived during a pass."""
        self._tokens = 0
        """Tokens of the largest of these passes, including padding."""

    def interrupted(self) -> None:
        """Records that a request has arrived during a pass."""
        self._passes = self._tokens = 0

    def finished(self, seconds: float, tokens: int) -> None:
        """Records that a pass has finished."""
        if seconds >= SHORT_PASS_SECONDS:
            self._passes = self._tokens = 0
        else:
            self._passes += 1
            self._tokens = max(self._tokens, tokens)

    def expected(self, tokens: int) -> bool:
        """Whether a pass of `tokens` that starts now is likely to be short, and to finish before the next request."""
        return self._passes >= PASSES_ALONE and tokens <= self._tokens
