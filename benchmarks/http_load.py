"""Requests per second and latency of both endpoints, with dynamic batching and with one text at a time.

    python -m benchmarks.http_load --models models --connections 32

Two real services run side by side, one of them with batches of one text. They are loaded in turn, several rounds each,
so that a change of the machine meets both; the ratio is taken within each round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.http_connection import HttpConnection, post
from benchmarks.service_process import serving

# Reviews and news of usual lengths; --texts takes a file of one's own.
TEXTS = (
    "房间很干净，服务也很周到，下次还会再来。",
    "质量太差了，用了两天就坏了，非常失望。",
    "酒店离地铁站很近，交通方便，早餐的种类也不少，就是隔音不太好，晚上能听见走廊里的声音。",
    "书的内容不错，可是纸张很薄，印刷也有些模糊。",
    "笔记本外观漂亮，键盘手感很好，运行速度快，唯一的缺点是散热一般，玩游戏的时候比较烫。",
    "不推荐。",
    "昨天下午，记者从市政府召开的新闻发布会上了解到，今年全市将新建二十所小学，改建三十五所，预计明年秋季开学前全部完成。",
    "送货很快，包装也好，孩子非常喜欢。",
    "前台的态度很差，办理入住等了将近一个小时，房间里有烟味，空调也不制冷，打电话报修到退房也没有人来，以后不会再住了。",
    "屏幕清楚，声音洪亮，价格便宜。",
)


@dataclass
class Round:
    """One endpoint under load for a while: requests per second, and latencies in milliseconds, sorted."""

    rate: float
    latencies: list[float]

    def percentile(self, percent: float) -> float:
        """The latency that `percent` of the requests stay within."""
        return self.latencies[min(len(self.latencies) - 1, int(len(self.latencies) * percent / 100))]


async def load(url: str, endpoint: str, bodies: Sequence[bytes], connections: int, seconds: float) -> Round:
    """Every connection sends one request after the other; raises RuntimeError for any answer but 200."""
    requests = [post(url, endpoint, body) for body in bodies]
    latencies: list[float] = []
    over = time.perf_counter() + seconds

    async def send(first: int) -> None:
        connection = HttpConnection(url)
        number = first
        while (begun := time.perf_counter()) < over:
            answer = await connection.ask(requests[number % len(requests)])
            if answer.status != 200:
                raise RuntimeError(answer.body.decode())
            latencies.append((time.perf_counter() - begun) * 1000)
            number += connections
        connection.close()

    begun = time.perf_counter()
    await asyncio.gather(*(send(index) for index in range(connections)))
    return Round(len(latencies) / (time.perf_counter() - begun), sorted(latencies))


def bodies_of(endpoint: str, texts: Sequence[str]) -> list[bytes]:
    """One request a text; for fill-mask the middle character of each is masked."""
    if endpoint == "/fill-mask":
        # A plus sign behind a mask would ask for a span.
        halves = [(text[: len(text) // 2], text[len(text) // 2 + 1 :].removeprefix("+")) for text in texts]
        texts = [f"{before}[MASK]{after}" for before, after in halves]
    return [json.dumps({"inputs": text, "truncation": "truncate"}).encode() for text in texts]


def median_and_spread(values: Sequence[float], unit: str = "") -> str:
    """`median (lowest–highest)`."""
    return f"{statistics.median(values):.1f}{unit} ({min(values):.1f}–{max(values):.1f})"


def main() -> None:
    """Runs the rounds and prints one table an endpoint."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http_load", description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=Path("models"), help="model repository (default: models)")
    parser.add_argument("--texts", type=Path, help="one text a line (default: ten built-in reviews and news)")
    parser.add_argument("--connections", type=int, default=32, help="requests in flight (default: 32)")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a round (default: 5)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each service (default: 5)")
    arguments = parser.parse_args()
    texts = arguments.texts.read_text(encoding="utf-8").split("\n") if arguments.texts else list(TEXTS)
    texts = [text.strip() for text in texts if text.strip()]
    with serving(arguments.models) as one, serving(arguments.models, "--max-batch-items", "1") as other:
        batching, single = one.url, other.url
        for endpoint in ("/classify", "/fill-mask"):
            bodies = bodies_of(endpoint, texts)
            rounds: dict[str, list[Round]] = {batching: [], single: []}
            for url in rounds:
                asyncio.run(load(url, endpoint, bodies, arguments.connections, 1.0))  # not counted
            for _ in range(arguments.rounds):
                for url, done in rounds.items():
                    done.append(asyncio.run(load(url, endpoint, bodies, arguments.connections, arguments.seconds)))
            print(
                f"{endpoint}, {arguments.connections} connections, {arguments.rounds} rounds: median (lowest–highest)"
            )
            for name, url in (("dynamic batching", batching), ("one text at a time", single)):
                print(
                    f"  {name:<19} {median_and_spread([each.rate for each in rounds[url]])} requests/s, "
                    f"p50 {median_and_spread([each.percentile(50) for each in rounds[url]], ' ms')}, "
                    f"p99 {median_and_spread([each.percentile(99) for each in rounds[url]], ' ms')}"
                )
            ratios = [
                batched.rate / alone.rate for batched, alone in zip(rounds[batching], rounds[single], strict=True)
            ]
            print(f"  requests/s, ratio   {median_and_spread(ratios)}")


if __name__ == "__main__":
    main()
