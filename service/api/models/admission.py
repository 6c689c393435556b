"""Admission to the queue: limits on admitted requests and tokens, so that overload is answered immediately."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from service.problem import Problem

# The rate is measured over this many seconds, so that it also covers batches that take seconds.
RATE_SECONDS = 30.0


class Admission:
    """The limits of one model in one API process. A request is admitted as a whole or not at all."""

    def __init__(
        self, max_requests: int, max_tokens: int, clock: Callable[[], float] = time.monotonic, *, share: int = 1
    ) -> None:
        """The limits are those of the service; each of `share` API processes has an equal part."""
        self._max_tokens = max_tokens
        self._own_requests = math.ceil(max_requests / share)
        self._own_tokens = math.ceil(max_tokens / share)
        self._rate = DrainRate(clock)
        self.requests = 0
        self.tokens = 0

    def admit(self, tokens: int = 0) -> Place:
        """A place for one request, to be used in a `with` block, with room for `tokens`; it can reserve more.

        This call, or entering the block, raises Problem: `overloaded`, or `too_large` if a retry cannot help.
        """
        if self.full:
            raise self.overloaded()
        return Place(self, tokens)

    def enter(self) -> None:
        """Counts a request as admitted."""
        self.requests += 1
        if self.requests == 1:
            self._rate.working(True)

    def leave(self) -> None:
        """Counts a request as finished."""
        self.requests -= 1
        if not self.requests:
            self._rate.working(False)

    def hold(self, tokens: int) -> None:
        """Counts `tokens` as admitted. Raises Problem: `overloaded`, or `too_large` if a retry cannot help."""
        if tokens > self._max_tokens:
            raise Problem(
                "too_large",
                f"the request has {tokens} tokens, but at most {self._max_tokens} may be in work; split it.",
            )
        # A request that exceeds the share of this process is admitted only alone; otherwise it would never be admitted.
        if self.tokens and self.tokens + tokens > self._own_tokens:
            raise self.overloaded()
        self.tokens += tokens

    def release(self, tokens: int, done: bool) -> None:
        """Counts `tokens` as finished. `done`: there are results, so they count for the rate."""
        self.tokens -= tokens
        if done:
            self._rate.count(tokens)

    @property
    def full(self) -> bool:
        """Whether even the smallest request would be rejected now."""
        return self.requests >= self._own_requests or self.tokens >= self._own_tokens

    def overloaded(self) -> Problem:
        """The answer to a request that is not admitted."""
        return Problem(
            "overloaded",
            f"{self.requests} requests with {self.tokens} tokens are in work; try again later.",
            retry_after=self.retry_after(),
        )

    def retry_after(self) -> int:
        """Whole seconds until half of the admitted tokens are finished at the measured rate; 60 at most."""
        rate = self._rate.tokens_per_second()
        return max(1, min(60, math.ceil(self.tokens / 2 / rate))) if rate else 1


class Place:
    """The place of one request, for the time of a `with` block."""

    def __init__(self, admission: Admission, tokens: int) -> None:
        self._admission = admission
        self._room = Room(admission, tokens)

    def __enter__(self) -> Place:
        self._room.__enter__()
        self._admission.enter()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._admission.leave()
        self._room.__exit__(*raised)

    def holding(self, tokens: int) -> Room:
        """Room for `tokens` for the time of a `with` block; entering it raises Problem."""
        return Room(self._admission, tokens)


class Room:
    """Admitted tokens, for the time of a `with` block. After an exception they do not count for the rate."""

    def __init__(self, admission: Admission, tokens: int) -> None:
        self._admission = admission
        self._tokens = tokens

    def __enter__(self) -> None:
        self._admission.hold(self._tokens)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._admission.release(self._tokens, kind is None)


class DrainRate:
    """Finished tokens per second, over the last seconds in which there was work. Idle time does not count."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._worked = 0.0
        self._since: float | None = None
        self._done: deque[tuple[int, int]] = deque()
        """Finished tokens for each of the last RATE_SECONDS seconds of work."""

    def working(self, works: bool) -> None:
        """Records whether there is work from now on."""
        self._worked, self._since = self._time(), self._clock() if works else None

    def count(self, tokens: int) -> None:
        """Records that `tokens` have just been finished."""
        second = int(self._time())
        before = self._done.pop()[1] if self._done and self._done[-1][0] == second else 0
        self._done.append((second, before + tokens))
        self._forget()

    def tokens_per_second(self) -> float:
        """The rate; 0 before the first measurement."""
        self._forget()
        span = min(self._time(), RATE_SECONDS)
        return sum(tokens for _, tokens in self._done) / span if span else 0.0

    def _time(self) -> float:
        """Seconds of work so far."""
        return self._worked + (self._clock() - self._since if self._since is not None else 0.0)

    def _forget(self) -> None:
        while self._done and self._done[0][0] < self._time() - RATE_SECONDS:
            self._done.popleft()
