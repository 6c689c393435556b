"""Latency of one client that sends one text after the other, against the same work without a service.

    python -m benchmarks.serving.one_connection --bundle models/sentiment/3 --texts reviews.tsv titles.txt

Each text goes to the service over one connection; then this process tokenises it and runs the same graph on the same
runtime. So both are measured in turn, text by text. The service adds HTTP, the wake-up of two processes, and its own
work; this difference does not depend on the length of the text.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.arguments import parser_of
from benchmarks.rounds import median, progress, ratios, spread, table
from benchmarks.serving.connection import post
from benchmarks.serving.offline import Alone, runtime_options
from benchmarks.serving.service import serving
from benchmarks.serving.texts import MOST_CHARACTERS, bodies_of, built_in_texts, read_texts
from model_build.bundle import open_bundle

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)


class Client:
    """One connection that blocks: an event loop would add its own time to that of the service."""

    def __init__(self, url: str, path: str) -> None:
        address = urlsplit(url)
        self._url, self._path = url, path
        self._socket = socket.create_connection((address.hostname or "localhost", address.port or 80))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, body: bytes) -> None:
        """Returns when the whole answer is there. Raises RuntimeError for any status but 200."""
        self._socket.sendall(post(self._url, self._path, body))
        received = b""
        while not (head := received.partition(b"\r\n\r\n"))[1]:
            received += self._more()
        length = _LENGTH.search(head[0])
        while length and len(received) < len(head[0]) + 4 + int(length.group(1)):
            received += self._more()
        if not received.startswith(b"HTTP/1.1 200 ") or length is None:
            raise RuntimeError(f"the service answered {received.decode()}")

    def seconds(self, body: bytes) -> float:
        """The time that one answer takes."""
        begun = time.perf_counter()
        self.ask(body)
        return time.perf_counter() - begun

    def _more(self) -> bytes:
        if not (data := self._socket.recv(1 << 16)):
            raise RuntimeError("the service closed the connection")
        return data


async def measure(
    client: Client, bare: Callable[[str], Awaitable[None]], bodies: Sequence[bytes]
) -> tuple[float, float]:
    """Medians of one round, in milliseconds: of the service and of the bare call."""
    served, alone = [], []
    for body in bodies:
        served.append(1000 * client.seconds(body))
        begun = time.perf_counter()
        await bare(json.loads(body)["inputs"])
        alone.append(1000 * (time.perf_counter() - begun))
    return median(served), median(alone)


def main() -> None:
    """Measures and prints a line for each kind of text."""
    parser = parser_of(__doc__, rounds=9)
    parser.add_argument("--bundle", type=Path, required=True, help="version folder of a bundle")
    parser.add_argument(
        "--texts", type=Path, nargs="+", default=[], help="files, a text a line, or .tsv (default: built in)"
    )
    parser.add_argument("--number", type=int, default=100, help="texts of each kind in a round (default: 100)")
    parser.add_argument("--runtime", default="auto", help="as of ernie-serve (default: auto)")
    arguments = parser.parse_args()
    kinds = {path.name: read_texts(path) for path in arguments.texts} or built_in_texts()
    flags = ("--runtime", arguments.runtime)
    endpoint = f"/{open_bundle(arguments.bundle).manifest.task}"
    rounds: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    with serving(arguments.bundle, *flags) as service:
        alone = Alone(arguments.bundle, runtime_options(flags))
        client = Client(service.url, endpoint)
        for number in progress(range(arguments.rounds + 1), unit="round"):
            for kind, texts in kinds.items():
                chosen = random.Random(number).sample(texts, min(arguments.number, len(texts)))
                bodies = bodies_of(endpoint, [text[:MOST_CHARACTERS] for text in chosen])
                rounds[kind].append(asyncio.run(measure(client, alone.answer, bodies)))
    backend = alone.runtime.backend
    print(f"{arguments.bundle}, {backend}, {arguments.rounds} rounds of {arguments.number}: median (lowest–highest)")
    rows = []
    for kind, found in rounds.items():
        served, bare = (list(column) for column in zip(*found[1:], strict=True))  # the first is to warm up
        added = [one - other for one, other in zip(served, bare, strict=True)]
        rows.append((kind, spread(served), spread(bare), spread(ratios(served, bare)), spread(added)))
    print(table(("texts", "service ms", "bare call ms", "ratio", "difference ms"), rows))


if __name__ == "__main__":
    main()
