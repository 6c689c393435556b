"""Memory and counters of the service while the shapes of its batches change all the time.

    python -m benchmarks.serving.memory --minutes 60 --plot docs/memory.svg

Requests come at random moments (Poisson) and have one to sixteen texts of one token to the model's limit, masked or
not, so that batches rarely have the same shape: this shows what a library keeps for every shape that it has run.
Nothing is killed or exchanged during the run; `benchmarks.serving.soak` does that. Ends with status 1 where the
resident memory of a process has grown, or a counter in /metrics differs from what the client has counted.
"""

from __future__ import annotations

import asyncio
import collections
import json
import random
import time
from pathlib import Path

from benchmarks.arguments import parser_of
from benchmarks.rounds import progress
from benchmarks.serving.connection import HttpConnection, post
from benchmarks.serving.growth import Memory
from benchmarks.serving.metrics import Metrics, grown
from benchmarks.serving.open_loop import Tasks, arrivals
from benchmarks.serving.service import Service, serving
from benchmarks.serving.texts import TEXTS, body

SAMPLE_SECONDS = 10.0
REPORT_SECONDS = 10.0
Counts = collections.Counter[tuple[str, str]]
"""By the name of a counter in /metrics and its model."""


def some_body(rng: random.Random, path: str) -> bytes:
    """One to sixteen texts, each of one character to 250."""
    joined = "".join(TEXTS)
    texts = []
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        start, length = rng.randrange(len(joined) // 2), int(250 ** rng.random())
        text = joined[start : start + length]
        texts.append(text if path == "/classify" else f"{text}[MASK]{text[: length // 8]}")
    # Other work on the machine may delay an answer, which is not a failure.
    return body(inputs=texts, truncation="truncate", timeout_ms=600_000)


async def traffic(url: str, rng: random.Random, rate: float, seconds: float) -> Counts:
    """Sends `rate` requests a second; returns what was answered. Raises RuntimeError for any answer but 200."""
    idle: list[HttpConnection] = []
    counts: Counts = collections.Counter()

    async def ask(path: str) -> None:
        connection = idle.pop() if idle else HttpConnection(url)
        answer = await connection.ask(post(url, path, some_body(rng, path)))
        if answer.status != 200:
            raise RuntimeError(f"{path} was answered {answer.status}: {answer.body.decode()}")
        idle.append(connection)
        document = json.loads(answer.body)
        counts["ernie_requests_total", document["model"]] += 1
        counts["ernie_batch_requests_sum", document["model"]] += len(document["results"])
        counts["ernie_batch_tokens_sum", document["model"]] += document["usage"]["tokens"]

    end = time.perf_counter() + seconds
    async with Tasks() as tasks:
        with progress(total=round(rate * seconds), unit="request") as bar:
            async for _ in arrivals(rate, lambda due: due >= end, rng):
                tasks.start(ask(rng.choice(("/classify", "/fill-mask"))))
                bar.update()
    for connection in idle:
        connection.close()
    return counts


def miscounted(url: str, before: Metrics, counts: Counts) -> list[str]:
    """A sentence for each counter that differs from `counts` for longer than the engines need to report a batch."""
    deadline = time.monotonic() + REPORT_SECONDS
    while True:
        after = Metrics.of(url)
        found = {(name, model): grown(before, after, name, model=model) for name, model in counts}
        if found == counts or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    for (name, model), own in sorted(counts.items()):
        print(f"  {name} {model}: {found[name, model]:,.0f} in the service, {own:,} in the client")
    return [
        f"{name} of {model} is {found[name, model]:.0f} instead of {own}"
        for (name, model), own in counts.items()
        if found[name, model] != own
    ]


def draw(memory: Memory, path: Path) -> None:
    """Megabytes over minutes, a line a process."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 3.5), layout="constrained")
    for name, samples in memory.samples.items():
        axes.plot([at / 60 for at, _ in samples], [size / 1e6 for _, size in samples], label=name)
    axes.set(xlabel="minutes", ylabel="resident MB", ylim=(0, None))
    axes.legend(loc="center right")
    figure.savefig(path)


async def measured(service: Service, memory: Memory, rate: float, seconds: float) -> Counts:
    """Traffic and samples at the same time."""
    ended = asyncio.Event()
    watching = asyncio.create_task(memory.watch(ended, SAMPLE_SECONDS))
    try:
        return await traffic(service.url, random.Random(1), rate, seconds)
    finally:
        ended.set()
        await watching


def main() -> int:
    """Runs it and prints a line a process."""
    parser = parser_of(__doc__, models=True)
    parser.add_argument("--minutes", type=float, default=60.0, help="duration (default: 60)")
    parser.add_argument("--warm-up", type=float, default=10.0, help="minutes in which memory may grow (default: 10)")
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second (default: 20)")
    parser.add_argument("--runtime", default="auto", help="as of ernie-serve (default: auto)")
    parser.add_argument("--plot", type=Path, help="SVG to write")
    arguments = parser.parse_args()
    with serving(arguments.models, "--runtime", arguments.runtime) as service:
        memory = Memory(service)
        before = Metrics.of(service.url)
        counts = asyncio.run(measured(service, memory, arguments.rate, arguments.minutes * 60))
        wrong = miscounted(service.url, before, counts)
    print(f"{arguments.minutes:g} minutes; resident MB after {arguments.warm_up:g} minutes, at the end:")
    wrong += memory.report(arguments.warm_up * 60)
    if arguments.plot:
        draw(memory, arguments.plot)
    for sentence in wrong:
        print(sentence)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
