"""Who may queue: a bound on requests and tokens in work, so that overload is answered at once instead of late."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from service.problem import Problem

# The drain rate is that of so many seconds, of which batches that take seconds are a part.
RATE_SECONDS = 30.0


class Admission:
    """Bounds of one model in one API process. A request is let in as a whole or not at all."""

    def __init__(
        self, max_requests: int, max_tokens: int, clock: Callable[[], float] = time.monotonic, *, share: int = 1
    ) -> None:
        """The bounds are those of the service; `share` API processes have an equal part of them each."""
        self._max_tokens = max_tokens
        self._own_requests = math.ceil(max_requests / share)
        self._own_tokens = math.ceil(max_tokens / share)
        self._rate = DrainRate(clock)
        self.requests = 0
        self.tokens = 0

    def admit(self, tokens: int = 0) -> Place:
        """A place to be held for the time of a block, with room for `tokens`; more may be asked of it.

        This, or entering it, raises Problem: `overloaded`, or `too_large` for ever.
        """
        if self.full:
            raise self.overloaded()
        return Place(self, tokens)

    def enter(self) -> None:
        """A request has its place from now on."""
        self.requests += 1
        if self.requests == 1:
            self._rate.working(True)

    def leave(self) -> None:
        """It has it no longer."""
        self.requests -= 1
        if not self.requests:
            self._rate.working(False)

    def hold(self, tokens: int) -> None:
        """Counts `tokens` as in work. Raises Problem: `overloaded`, or `too_large` for ever."""
        if tokens > self._max_tokens:
            raise Problem(
                "too_large",
                f"the request has {tokens} tokens, but at most {self._max_tokens} may be in work; split it.",
            )
        # What is more than this process's share is let in by itself, or it never would be.
        if self.tokens and self.tokens + tokens > self._own_tokens:
            raise self.overloaded()
        self.tokens += tokens

    def release(self, tokens: int, done: bool) -> None:
        """They are in work no more; `done` if there are results, without which they tell nothing of the rate."""
        self.tokens -= tokens
        if done:
            self._rate.count(tokens)

    @property
    def full(self) -> bool:
        """Whether no request would be let in now, however small."""
        return self.requests >= self._own_requests or self.tokens >= self._own_tokens

    def overloaded(self) -> Problem:
        """What those are told who are not let in."""
        return Problem(
            "overloaded",
            f"{self.requests} requests with {self.tokens} tokens are in work; try again later.",
            retry_after=self.retry_after(),
        )

    def retry_after(self) -> int:
        """Whole seconds in which half of what is in work will be done, at the measured rate; 60 at most."""
        rate = self._rate.tokens_per_second()
        return max(1, min(60, math.ceil(self.tokens / 2 / rate))) if rate else 1


class Place:
    """What one request holds, for the time of a block."""

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
        """Room for tokens for the time of a block, for all of them or none; entering it raises Problem."""
        return Room(self._admission, tokens)


class Room:
    """Tokens in work, for the time of a block. Left by an exception, they tell nothing of the rate."""

    def __init__(self, admission: Admission, tokens: int) -> None:
        self._admission = admission
        self._tokens = tokens

    def __enter__(self) -> None:
        self._admission.hold(self._tokens)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._admission.release(self._tokens, kind is None)


class DrainRate:
    """Tokens done a second, over the last seconds in which there was work: idle time is no slowness."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._worked = 0.0
        self._since: float | None = None
        self._done: deque[tuple[int, int]] = deque()
        """Tokens by the second of work in which they were done, the last RATE_SECONDS of them."""

    def working(self, works: bool) -> None:
        """Whether there is work from now on."""
        self._worked, self._since = self._time(), self._clock() if works else None

    def count(self, tokens: int) -> None:
        """They have just been done."""
        second = int(self._time())
        before = self._done.pop()[1] if self._done and self._done[-1][0] == second else 0
        self._done.append((second, before + tokens))
        self._forget()

    def tokens_per_second(self) -> float:
        """0 while nothing is known."""
        self._forget()
        span = min(self._time(), RATE_SECONDS)
        return sum(tokens for _, tokens in self._done) / span if span else 0.0

    def _time(self) -> float:
        """Seconds of work so far."""
        return self._worked + (self._clock() - self._since if self._since is not None else 0.0)

    def _forget(self) -> None:
        while self._done and self._done[0][0] < self._time() - RATE_SECONDS:
            self._done.popleft()
