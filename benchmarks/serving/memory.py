"""Resident memory of every process of the service while the shapes of its batches change all the time.

    python -m benchmarks.serving.memory --minutes 60 --plot docs/memory.svg

Requests come at random moments (Poisson) and have one to sixteen texts of one token to the model's limit, masked or
not, so that hardly two batches have the same shape: this shows what a library keeps for every shape that it has met.
Nothing is killed or exchanged meanwhile; `benchmarks.serving.soak` does that. Ends with status 1 where a process has
grown.
"""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

from benchmarks.arguments import parser_of
from benchmarks.rounds import progress
from benchmarks.serving.connection import HttpConnection, post
from benchmarks.serving.growth import Memory
from benchmarks.serving.open_loop import Tasks, arrivals
from benchmarks.serving.service import Service, serving
from benchmarks.serving.texts import TEXTS, body

SAMPLE_SECONDS = 10.0


def some_body(rng: random.Random, path: str) -> bytes:
    """One to sixteen texts, each of one character to 250."""
    joined = "".join(TEXTS)
    texts = []
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        start, length = rng.randrange(len(joined) // 2), int(250 ** rng.random())
        text = joined[start : start + length]
        texts.append(text if path == "/classify" else f"{text}[MASK]{text[: length // 8]}")
    # Other work on the machine may delay an answer; that is no failure here.
    return body(inputs=texts, truncation="truncate", timeout_ms=600_000)


async def traffic(url: str, rng: random.Random, rate: float, seconds: float) -> int:
    """Sends `rate` requests a second; returns their number. Raises RuntimeError for any answer but 200."""
    idle: list[HttpConnection] = []

    async def ask(path: str) -> None:
        connection = idle.pop() if idle else HttpConnection(url)
        answer = await connection.ask(post(url, path, some_body(rng, path)))
        if answer.status != 200:
            raise RuntimeError(f"{path} was answered {answer.status}: {answer.body.decode()}")
        idle.append(connection)

    end, asked = time.perf_counter() + seconds, 0
    async with Tasks() as tasks:
        with progress(total=round(rate * seconds), unit="request") as bar:
            async for _ in arrivals(rate, lambda due: due >= end, rng):
                tasks.start(ask(rng.choice(("/classify", "/fill-mask"))))
                asked += 1
                bar.update()
    for connection in idle:
        connection.close()
    return asked


def draw(memory: Memory, path: Path) -> None:
    """Megabytes over minutes, a line a process."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 3.5), layout="constrained")
    for name, samples in memory.samples.items():
        axes.plot([at / 60 for at, _ in samples], [size / 1e6 for _, size in samples], label=name)
    axes.set(xlabel="minutes", ylabel="resident MB", ylim=(0, None))
    axes.legend(loc="center right")
    figure.savefig(path)


async def measured(service: Service, memory: Memory, rate: float, seconds: float) -> int:
    """Traffic and samples at the same time; returns the number of requests."""
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
        asked = asyncio.run(measured(service, memory, arguments.rate, arguments.minutes * 60))
    print(
        f"{arguments.minutes:g} minutes, {asked} requests; resident MB after {arguments.warm_up:g} minutes, at the end:"
    )
    grown = memory.report(arguments.warm_up * 60)
    if arguments.plot:
        draw(memory, arguments.plot)
    return 1 if grown else 0


if __name__ == "__main__":
    raise SystemExit(main())
