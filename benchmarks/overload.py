"""Goodput and latency against offered load: what the service does when more comes than it can do.

    python -m benchmarks.overload --models models --plot docs/overload.svg

The peak is what 64 connections of the same client get that send one request after the other. Then requests fall due at
random moments (Poisson) at a share or a multiple of that rate, whether or not earlier ones have been answered. Goodput
counts the answers of status 200; latencies run from the moment a request was due. Client and service share the machine.

The client has at most 1,000 connections, about twice what a full queue holds. A request that falls due while all of
them wait for answers is not sent, and is counted as that. It does not wait for its turn: at three times the peak such a
line would only grow, and the latencies would be those of the client's line instead of the service. Where more than 2 %
less was sent than offered, the table says so, and what it shows is of the rate that was sent. The delay from the moment
a request was due until it was sent is part of its latency, and is shown by itself: where it is short and requests were
not sent all the same, the service took its time to answer or to refuse; where it is long, the client's own process was
too slow. A connection that is refused or lost is counted, and the round goes on.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from benchmarks.http_connection import HttpConnection, post
from benchmarks.http_load import TEXTS, bodies_of, load, median_and_spread
from benchmarks.service_process import serving

LOADS = (0.5, 1.0, 2.0, 3.0)
PEAK_CONNECTIONS = 64
# What the service is let take, so that it closes none as the longest idle one.
CONNECTIONS = 10_000
# As many as the service takes by default: more than a full queue needs (512 requests), and fewer than may wait to be
# accepted (2,048). Beyond that the system drops new connections, and the service never hears of them.
CLIENT_CONNECTIONS = 1000
# A client that has sent less of what it was to send has not kept up.
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
    """Those of them for which the client had no connection left."""
    late: list[float] = field(default_factory=list)
    """Of each request that was sent: how long after it was due."""
    answers: collections.Counter[int] = field(default_factory=collections.Counter)
    served: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    lost: collections.Counter[str] = field(default_factory=collections.Counter)
    """Requests that no whole answer came to, by the name of the error, from the round's very beginning."""

    @property
    def sent(self) -> float:
        """Requests per second that left the client."""
        return len(self.late) / self.seconds

    @property
    def kept_up(self) -> bool:
        """Whether the client sent what it was to send."""
        return len(self.late) >= KEPT_UP * self.arrivals

    @property
    def answered(self) -> int:
        """All of them."""
        return sum(self.answers.values())

    @property
    def goodput(self) -> float:
        """Answers of status 200 per second."""
        return self.answers[200] / self.seconds


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` of them stay within; 0 of none."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(len(ranked) * percent / 100))] if ranked else 0.0


async def offer(
    url: str, requests: Sequence[bytes], rate: float, seconds: float, seed: int, settling: float = SETTLING_SECONDS
) -> Offered:
    """Sends `rate` requests a second over CLIENT_CONNECTIONS at most, for `seconds` after the service has settled."""
    rng = random.Random(seed)
    # The last one used is the next one used, so that no more are opened than are needed at a time.
    idle = [HttpConnection(url) for _ in range(CLIENT_CONNECTIONS)]
    result = Offered(seconds)
    begun = time.perf_counter()
    counted = begun + settling
    over = counted + seconds

    async def one(connection: HttpConnection, request: bytes, due: float) -> None:
        if counted <= (now := time.perf_counter()) < over:
            result.late.append((now - due) * 1000)
        try:
            answer = await connection.ask(request)
        except (OSError, asyncio.IncompleteReadError) as error:
            result.lost[type(error).__name__] += 1
            return
        finally:
            idle.append(connection)
        now = time.perf_counter()
        if counted <= now < over:
            result.answers[answer.status] += 1
            (result.served if answer.status == 200 else result.refused).append((now - due) * 1000)

    due = begun
    async with _TaskGroup() as tasks:
        while (due := due + rng.expovariate(rate)) < over:
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            result.arrivals += due >= counted
            if idle:
                tasks.start(one(idle.pop(), rng.choice(requests), due))
            else:
                result.unsent += due >= counted
    for connection in idle:
        connection.close()
    return result


class _TaskGroup:
    """Awaits every task at its end, and raises what any of them raised (asyncio.TaskGroup comes with Python 3.11)."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: BaseException | None = None

    def start(self, work: collections.abc.Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._failed = self._failed or task.exception()

    async def __aenter__(self) -> _TaskGroup:
        return self

    async def __aexit__(self, *error: object) -> None:
        while self._tasks:
            await asyncio.wait(set(self._tasks))
        if self._failed:
            raise self._failed


def plot(path: Path, endpoint: str, peak: float, results: dict[float, list[Offered]]) -> None:
    """Draws goodput and p99 against offered load; the format follows the name's ending."""
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
    sent = [statistics.median(each.sent for each in rounds) for rounds in results.values()]
    goodput = [[each.goodput for each in rounds] for rounds in results.values()]
    middle = [statistics.median(each) for each in goodput]
    spread = [[mid - min(each) for mid, each in zip(middle, goodput, strict=True)],
              [max(each) - mid for mid, each in zip(middle, goodput, strict=True)]]  # fmt: skip
    left.plot([0, max(sent)], [peak, peak], ":", color="grey", label="peak of a closed loop")
    left.plot([0, peak], [0, peak], "--", color="lightgrey")
    left.errorbar(sent, middle, spread, marker="o", label="goodput")
    left.set(xlabel="sent requests/s", ylabel="answers of status 200 per second", ylim=(0, peak * 1.25))
    for status, name in (("served", "p99, answered 200"), ("refused", "p99, answered 429")):
        values = [
            statistics.median(percentile(getattr(each, status), 99) for each in rounds) for rounds in results.values()
        ]
        right.plot(sent, [value or None for value in values], marker="o", label=name)
    right.set(xlabel="sent requests/s", ylabel="milliseconds", yscale="log")
    for axes in (left, right):
        axes.legend()
        axes.grid(alpha=0.3)
    figure.suptitle(f"POST {endpoint}, offered 0.5, 1, 2 and 3 times its peak")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def show(share: float, peaks: Sequence[float], rounds: Sequence[Offered]) -> None:
    """Prints what one load came to: median and spread over the rounds."""
    goodput = [each.goodput for each in rounds]
    of_peak = [100 * each / peak for each, peak in zip(goodput, peaks, strict=True)]
    refused = [100 * each.answers[429] / max(1, each.answered) for each in rounds]
    others = sum(each.answered - each.answers[200] - each.answers[429] for each in rounds)
    offered = [each.arrivals / each.seconds for each in rounds]
    unsent = [100 * each.unsent / max(1, each.arrivals) for each in rounds]
    delay = [percentile(each.late, 99) for each in rounds]
    lost = sum((each.lost for each in rounds), collections.Counter[str]())
    print(f"{share:.1f} × peak offered: {median_and_spread(offered)} requests/s")
    print(f"  sent     {median_and_spread([each.sent for each in rounds])} requests/s")
    print(f"  not sent {median_and_spread(unsent, ' %')} of the offered: none of {CLIENT_CONNECTIONS} connections free")
    if behind := sum(not each.kept_up for each in rounds):
        print(f"  THE CLIENT DID NOT KEEP UP in {behind} of {len(rounds)} rounds: the rest is of the rate sent")
    print(f"  goodput  {median_and_spread(goodput)} requests/s, {median_and_spread(of_peak, ' %')} of the peak")
    print(f"  429      {median_and_spread(refused, ' %')} of the answers; neither 200 nor 429: {others}")
    print(f"  no answer {sum(lost.values())}{''.join(f', {name} {count}' for name, count in lost.items())}")
    print(f"  p99 of the delay until sent {median_and_spread(delay, ' ms')}")
    for status, name in (("served", "200"), ("refused", "429")):
        if not any(getattr(each, status) for each in rounds):
            continue
        for percent in (50, 99):
            values = [percentile(getattr(each, status), percent) for each in rounds]
            print(f"  p{percent} {name}  {median_and_spread(values, ' ms')}")


def main() -> None:
    """Runs the rounds, prints the table, draws the curve."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=Path("models"), help="model repository (default: models)")
    parser.add_argument("--endpoint", choices=("/classify", "/fill-mask"), default="/classify")
    parser.add_argument("--seconds", type=float, default=8.0, help="counted length of a round (default: 8)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each load (default: 5)")
    parser.add_argument("--plot", type=Path, help="picture to write, .svg or .png")
    arguments = parser.parse_args()
    # The client's share of the machine is the service's loss.
    uvloop.install()
    bodies = bodies_of(arguments.endpoint, TEXTS)
    peaks: list[float] = []
    results: dict[float, list[Offered]] = {share: [] for share in LOADS}
    with serving(arguments.models, "--max-connections", str(CONNECTIONS)) as service:
        requests = [post(service.url, arguments.endpoint, body) for body in bodies]
        asyncio.run(load(service.url, arguments.endpoint, bodies, PEAK_CONNECTIONS, SETTLING_SECONDS))
        for number in range(arguments.rounds):
            closed = asyncio.run(load(service.url, arguments.endpoint, bodies, PEAK_CONNECTIONS, arguments.seconds))
            peaks.append(closed.rate)
            for share, rounds in results.items():
                rounds.append(asyncio.run(offer(service.url, requests, share * closed.rate, arguments.seconds, number)))
    print(f"{arguments.endpoint}: peak {median_and_spread(peaks)} requests/s; median (lowest–highest) of each")
    for share, rounds in results.items():
        show(share, peaks, rounds)
    if arguments.plot:
        plot(arguments.plot, arguments.endpoint, statistics.median(peaks), results)


if __name__ == "__main__":
    main()
