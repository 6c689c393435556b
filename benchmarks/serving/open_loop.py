"""An open loop: requests fall due at random moments (Poisson), whether or not earlier ones have been answered.

The client has at most CLIENT_CONNECTIONS connections. A request that falls due while all of them are busy is counted as
not sent: it is not queued in the client, where at three times the peak the queue would only grow, and the latencies
would be those of the client. Latencies run from the moment a request was due. The delay until it was sent is part of
its latency and is counted separately: a long delay means that the client's process was too slow.
"""

from __future__ import annotations

import asyncio
import collections
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from benchmarks.serving.closed_loop import Load
from benchmarks.serving.connection import HttpConnection

# For --max-connections of the service, so that it never closes a connection as the longest idle one.
CONNECTIONS = 10_000
# The service's default bound: more than a full queue needs (512 requests), and less than the listen backlog (2,048).
# Beyond that the system drops new connections before the service sees them.
CLIENT_CONNECTIONS = 1000
# If the client has sent a smaller share of the requests, it was too slow, and the measurement is not valid.
KEPT_UP = 0.98
# The first seconds of a round, in which the queue fills up, are not counted.
SETTLING_SECONDS = 3.0


@dataclass
class Offered:
    """One round of one load: what happened in the counted time, latencies in milliseconds."""

    seconds: float
    arrivals: int = 0
    """Requests that fell due."""
    unsent: int = 0
    """Those for which no connection was free."""
    late: list[float] = field(default_factory=list)
    """For each request that was sent: the delay from when it was due."""
    answers: collections.Counter[int] = field(default_factory=collections.Counter)
    served: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    lost: collections.Counter[str] = field(default_factory=collections.Counter)
    """Requests without a whole answer, by the name of the error, in the whole round."""

    @property
    def sent(self) -> float:
        """Requests per second that left the client."""
        return len(self.late) / self.seconds

    @property
    def kept_up(self) -> bool:
        """Whether the client sent what was offered."""
        return len(self.late) >= KEPT_UP * self.arrivals

    @property
    def answered(self) -> int:
        """All answers."""
        return sum(self.answers.values())

    @property
    def goodput(self) -> float:
        """Answers of status 200 per second."""
        return self.answers[200] / self.seconds


async def arrivals(rate: float, ended: Callable[[float], bool], rng: random.Random) -> AsyncIterator[float]:
    """Random moments, `rate` a second, each yielded when it has come, until `ended` is true of one of them."""
    due = time.perf_counter()
    while not ended(due := due + rng.expovariate(rate)):
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        yield due


def open_loop(load: Load, rate: float, seconds: float, seed: int, settling: float = SETTLING_SECONDS) -> Offered:
    """Offers `rate` requests a second for `seconds` after the service has settled."""
    return asyncio.run(offer(load, rate, seconds, seed, settling))


async def offer(load: Load, rate: float, seconds: float, seed: int, settling: float = SETTLING_SECONDS) -> Offered:
    """`open_loop` in a running event loop."""
    rng, requests = random.Random(seed), load.requests()
    # The last used one is the next used one, so that no more are opened than are needed at a time.
    idle = [HttpConnection(load.url) for _ in range(CLIENT_CONNECTIONS)]
    result = Offered(seconds)
    counted = time.perf_counter() + settling
    end = counted + seconds

    async def one(connection: HttpConnection, request: bytes, due: float) -> None:
        if counted <= (now := time.perf_counter()) < end:
            result.late.append((now - due) * 1000)
        try:
            answer = await connection.ask(request)
        except (OSError, asyncio.IncompleteReadError) as error:
            result.lost[type(error).__name__] += 1
            return
        finally:
            idle.append(connection)
        now = time.perf_counter()
        if counted <= now < end:
            result.answers[answer.status] += 1
            (result.served if answer.status == 200 else result.refused).append((now - due) * 1000)

    async with Tasks() as tasks:
        async for due in arrivals(rate, lambda due: due >= end, rng):
            result.arrivals += due >= counted
            if idle:
                tasks.start(one(idle.pop(), rng.choice(requests), due))
            else:
                result.unsent += due >= counted
    for connection in idle:
        connection.close()
    return result


class Tasks:
    """Awaits every task at its end, and raises what any of them raised (asyncio.TaskGroup needs Python 3.11)."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: BaseException | None = None

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._failed = self._failed or task.exception()

    async def __aenter__(self) -> Tasks:
        return self

    async def __aexit__(self, *error: object) -> None:
        while self._tasks:
            await asyncio.wait(set(self._tasks))
        if self._failed:
            raise self._failed
