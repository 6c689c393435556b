"""Resident memory of every process of the service while the shapes of its batches change all the time.

    python -m benchmarks.memory --minutes 60 --plot docs/memory.svg

Requests come at random times and have one to sixteen texts of one token to the model's limit, masked or not, so that
hardly two batches have the same shape: what a library keeps for every shape that it has met shows. Nothing is killed or
exchanged meanwhile; `benchmarks.soak` does that. Ends with status 1 where a process has grown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from tqdm import tqdm

from benchmarks.http_connection import HttpConnection, post
from benchmarks.http_load import TEXTS
from benchmarks.service_process import RunningService, serving
from benchmarks.soak import MAX_GROWTH, growth

SAMPLE_SECONDS = 10.0
Memory = dict[str, list[tuple[float, int]]]


def some_body(rng: random.Random, path: str) -> bytes:
    """One to sixteen texts, each of one character to 250."""
    joined = "".join(TEXTS)
    texts = []
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        start, length = rng.randrange(len(joined) // 2), int(250 ** rng.random())
        text = joined[start : start + length]
        texts.append(text if path == "/classify" else f"{text}[MASK]{text[: length // 8]}")
    # A machine that has other work is no fault of the memory's.
    asked = {"inputs": texts, "truncation": "truncate", "timeout_ms": 600_000}
    return json.dumps(asked, ensure_ascii=False).encode()


async def traffic(url: str, rng: random.Random, rate: float, seconds: float) -> int:
    """So many requests a second at random times; returns how many. Raises RuntimeError for any answer but 200."""
    idle: list[HttpConnection] = []
    asking: set[asyncio.Task[None]] = set()

    async def ask(path: str) -> None:
        connection = idle.pop() if idle else HttpConnection(url)
        answer = await connection.ask(post(url, path, some_body(rng, path)))
        if answer.status != 200:
            raise RuntimeError(f"{path} was answered {answer.status}: {answer.body.decode()}")
        idle.append(connection)

    over, asked = time.monotonic() + seconds, 0
    while time.monotonic() < over:
        task = asyncio.create_task(ask(rng.choice(("/classify", "/fill-mask"))))
        asking.add(task)
        asked += 1
        await asyncio.sleep(rng.expovariate(rate))
        for done in [each for each in asking if each.done()]:
            asking.discard(done)
            done.result()
    await asyncio.gather(*asking)
    for connection in idle:
        connection.close()
    return asked


async def measure(service: RunningService, memory: Memory, seconds: float) -> None:
    """Notes every process's resident bytes, with the seconds since the start."""
    begun = time.monotonic()
    for _ in tqdm(range(int(seconds / SAMPLE_SECONDS)), unit="sample", disable=not sys.stderr.isatty()):
        await asyncio.sleep(SAMPLE_SECONDS)
        memory.setdefault("parent", []).append(
            (time.monotonic() - begun, psutil.Process(service.process.pid).memory_info().rss)
        )
        for name, processes in service.children().items():
            for each in processes:
                memory.setdefault(name, []).append((time.monotonic() - begun, each.memory_info().rss))


def draw(memory: Memory, path: Path) -> None:
    """Megabytes over minutes, a line a process."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 3.5), layout="constrained")
    for name, samples in memory.items():
        axes.plot([at / 60 for at, _ in samples], [size / 1e6 for _, size in samples], label=name)
    axes.set(xlabel="minutes", ylabel="resident MB", ylim=(0, None))
    axes.legend(loc="center right")
    figure.savefig(path)


def main() -> int:
    """Runs it and prints a line a process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=Path("models"), help="model repository (default: models)")
    parser.add_argument("--minutes", type=float, default=60.0, help="how long (default: 60)")
    parser.add_argument("--warm-up", type=float, default=10.0, help="minutes in which memory may grow (default: 10)")
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second (default: 20)")
    parser.add_argument("--runtime", default="auto", help="as of ernie-serve (default: auto)")
    parser.add_argument("--plot", type=Path, help="SVG to write")
    arguments = parser.parse_args()
    memory: Memory = {}
    seconds = arguments.minutes * 60

    async def both(service: RunningService) -> int:
        measuring = measure(service, memory, seconds)
        asked, _ = await asyncio.gather(traffic(service.url, random.Random(1), arguments.rate, seconds), measuring)
        return asked

    with serving(arguments.models, "--runtime", arguments.runtime) as service:
        asked = asyncio.run(both(service))
    print(
        f"{arguments.minutes:g} minutes, {asked} requests; resident MB after {arguments.warm_up:g} minutes, at the end:"
    )
    grew = [name for name in memory if report(name, memory[name], arguments.warm_up * 60, print) > MAX_GROWTH]
    if arguments.plot:
        draw(memory, arguments.plot)
    return 1 if grew else 0


def report(name: str, samples: list[tuple[float, int]], since: float, tell: Callable[[str], None]) -> float:
    """Tells the growth of a process, and returns it."""
    first, last, grown = growth(samples, since)
    tell(f"  {name:12} {first:8.1f} {last:8.1f} {grown:+8.2%}")
    return grown


if __name__ == "__main__":
    raise SystemExit(main())
