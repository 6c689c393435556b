"""Requests per second and latency of both endpoints, with dynamic batching and with one text at a time.

    python -m benchmarks.http_load --models models --connections 32

Two real services run side by side, one of them with batches of one text. They are loaded in turn, several rounds each,
so that a change of the machine meets both; the ratio is taken within each round.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

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


@contextlib.contextmanager
def serving(models: Path, *flags: str) -> Iterator[str]:
    """A ready service on a free port; gives its URL."""
    command = [sys.executable, "-m", "service.cli", "--models", str(models), "--port", "0", *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r"listening on (http://\S+),", line):
                break
        else:
            raise SystemExit("".join(lines))
        threading.Thread(target=lambda: [None for _ in process.stderr or ()], daemon=True).start()
        while not _ready(found.group(1)):
            if process.poll() is not None:
                raise SystemExit("the service ended before it was ready.")
            time.sleep(0.1)
        yield found.group(1)
    finally:
        process.terminate()
        process.wait()


def _ready(url: str) -> bool:
    with contextlib.suppress(OSError):
        return urllib.request.urlopen(f"{url}/health/ready").status == 200
    return False


async def load(url: str, endpoint: str, bodies: Sequence[bytes], connections: int, seconds: float) -> Round:
    """Every connection sends one request after the other; raises RuntimeError for any answer but 200."""
    address = urlsplit(url)
    requests = [
        f"POST {endpoint} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
        for body in bodies
    ]
    latencies: list[float] = []
    over = time.perf_counter() + seconds

    async def connection(first: int) -> None:
        # A client of a few lines: a full one would take as much of the machine as the service.
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        number = first
        while (begun := time.perf_counter()) < over:
            writer.write(requests[number % len(requests)])
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            body = await reader.readexactly(int(length.group(1)) if length else 0)
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(body.decode())
            latencies.append((time.perf_counter() - begun) * 1000)
            number += connections
        writer.close()

    begun = time.perf_counter()
    await asyncio.gather(*(connection(index) for index in range(connections)))
    return Round(len(latencies) / (time.perf_counter() - begun), sorted(latencies))


def bodies_of(endpoint: str, texts: Sequence[str]) -> list[bytes]:
    """One request a text; for fill-mask the middle character of each is masked."""
    if endpoint == "/fill-mask":
        texts = [f"{text[: len(text) // 2]}[MASK]{text[len(text) // 2 + 1 :]}" for text in texts]
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
    with serving(arguments.models) as batching, serving(arguments.models, "--max-batch-items", "1") as single:
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
            ratios = [one.rate / other.rate for one, other in zip(rounds[batching], rounds[single], strict=True)]
            print(f"  requests/s, ratio   {median_and_spread(ratios)}")


if __name__ == "__main__":
    main()
