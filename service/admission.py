"""Who may queue: a bound on requests and tokens in work, so that overload is answered at once instead of late."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

from service.problems import Problem

# The share of a new measurement in the drain rate; older ones fade.
SMOOTHING = 0.2


class Admission:
    """Bounds of one model. A request is let in as a whole or not at all."""

    def __init__(self, max_requests: int, max_tokens: int, clock: Callable[[], float]) -> None:
        self._max_requests = max_requests
        self._max_tokens = max_tokens
        self._clock = clock
        self._tokens_per_second = 0.0
        self._last_leave: float | None = None
        self.requests = 0
        self.tokens = 0

    @contextlib.contextmanager
    def admit(self, tokens: int = 0) -> Iterator[Place]:
        """A place for the time of the block, with room for `tokens`; more may be asked of it.

        Raises Problem: `overloaded`, or `too_large` for ever.
        """
        if self.full:
            raise self.overloaded()
        if not self.requests:
            self._last_leave = self._clock()
        place = Place(self)
        with place.holding(tokens):
            self.requests += 1
            try:
                yield place
            finally:
                self.requests -= 1

    def hold(self, tokens: int) -> None:
        """Counts `tokens` as in work. Raises Problem: `overloaded`, or `too_large` for ever."""
        if tokens > self._max_tokens:
            raise Problem(
                "too_large",
                f"the request has {tokens} tokens, but at most {self._max_tokens} may be in work; split it.",
            )
        if self.tokens + tokens > self._max_tokens:
            raise self.overloaded()
        self.tokens += tokens

    def release(self, tokens: int) -> None:
        """They are done."""
        self.tokens -= tokens
        if tokens:
            self._measure(tokens)

    @property
    def full(self) -> bool:
        """Whether no request would be let in now, however small."""
        return self.requests >= self._max_requests or self.tokens >= self._max_tokens

    def overloaded(self) -> Problem:
        """What those are told who are not let in."""
        return Problem(
            "overloaded",
            f"{self.requests} requests with {self.tokens} tokens are in work; try again later.",
            retry_after=self.retry_after(),
        )

    def retry_after(self) -> int:
        """Whole seconds in which half of what is in work will be done, at the measured rate."""
        if not self._tokens_per_second:
            return 1
        return max(1, min(60, math.ceil(self.tokens / 2 / self._tokens_per_second)))

    def _measure(self, tokens: int) -> None:
        now = self._clock()
        if self._last_leave is not None and now > self._last_leave:
            rate = tokens / (now - self._last_leave)
            known = self._tokens_per_second or rate
            self._tokens_per_second = known + SMOOTHING * (rate - known)
        self._last_leave = now


class Place:
    """What one request holds."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    @contextlib.contextmanager
    def holding(self, tokens: int) -> Iterator[None]:
        """Room for tokens for the time of the block, for all of them or none; raises Problem."""
        self._admission.hold(tokens)
        try:
            yield
        finally:
            self._admission.release(tokens)
