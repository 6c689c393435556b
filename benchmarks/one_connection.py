"""Latency of one client that sends one text after the other, against the same work with no service around it.

    python -m benchmarks.one_connection --bundle models/sentiment/3 --texts reviews.tsv titles.txt

For every text in turn: the service is asked over one connection, and this process tokenises the text and runs the same
graph on the same runtime by itself, so that both find the machine as the other has left it. What the service adds is
HTTP, two processes that have to be woken, and its own work; it does not shrink with the text.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import socket
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from tqdm import tqdm

from benchmarks.http_connection import post
from benchmarks.http_load import bodies_of
from benchmarks.peers import MOST_CHARACTERS, read_texts
from benchmarks.service_process import serving
from model_build.bundle import open_bundle
from service.engine.messages import Item
from service.engine.shapes import AnyShape, FewShapes
from service.engine.tensors import Tensors
from service.runtime.base import RuntimeOptions
from service.runtime.load import load_runtime
from service.tokenization import tokenizer_named

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)")


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

    def _more(self) -> bytes:
        if not (data := self._socket.recv(1 << 16)):
            raise RuntimeError("the service closed the connection")
        return data


Bare = Callable[[str], Awaitable[None]]


def bare_call(directory: Path, runtime_name: str) -> tuple[Bare, str]:
    """Tokenises one text, runs the graph, reads its outputs; and the name of the backend."""
    bundle = open_bundle(directory)
    manifest = bundle.manifest
    tokenizer = tokenizer_named("native", bundle.vocab_path, manifest.tokenizer.do_lower_case)
    runtime = load_runtime(bundle, RuntimeOptions(runtime=runtime_name))  # type: ignore[arg-type]
    tensors = Tensors(bundle, FewShapes() if runtime.compiles_shapes else AnyShape())

    async def call(text: str) -> None:
        found = await tokenizer.encode(text, None, manifest.max_length)
        masks = found.mask_positions if manifest.task == "fill-mask" else []
        items = [Item(found.input_ids, found.token_type_ids, masks)]
        tensors.outputs(runtime.run(tensors.inputs(items)), items)

    return call, runtime.backend


async def measure(client: Client, bare: Bare, texts: Sequence[str], bodies: Sequence[bytes]) -> list[float]:
    """Medians of one round, in milliseconds: of the service and of the bare call."""
    served, alone = [], []
    for text, body in zip(texts, bodies, strict=True):
        begun = time.perf_counter()
        client.ask(body)
        answered = time.perf_counter()
        await bare(text)
        served.append(1000 * (answered - begun))
        alone.append(1000 * (time.perf_counter() - answered))
    return [statistics.median(served), statistics.median(alone)]


def main() -> None:
    """Measures and prints a line for each file of texts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.one_connection", description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True, help="version folder of a bundle")
    parser.add_argument("--texts", type=Path, nargs="+", required=True, help="files, a text a line, or .tsv")
    parser.add_argument("--number", type=int, default=100, help="texts of each file in a round (default: 100)")
    parser.add_argument("--rounds", type=int, default=9, help="rounds (default: 9)")
    parser.add_argument("--runtime", default="auto", help="as of ernie-serve (default: auto)")
    arguments = parser.parse_args()
    endpoint = {"classify": "/classify", "fill-mask": "/fill-mask"}[open_bundle(arguments.bundle).manifest.task]
    rounds: dict[str, list[list[float]]] = {}
    with serving(arguments.bundle, "--runtime", arguments.runtime) as service:
        bare, backend = bare_call(arguments.bundle, arguments.runtime)
        client = Client(service.url, endpoint)
        for number in tqdm(range(arguments.rounds + 1), unit="round", disable=None):
            for path in arguments.texts:
                texts = [text[:MOST_CHARACTERS] for text in read_texts(path)]
                bodies = bodies_of(endpoint, random.Random(number).sample(texts, min(arguments.number, len(texts))))
                found = asyncio.run(measure(client, bare, [_text(body) for body in bodies], bodies))
                if number:  # the first is to warm up
                    rounds.setdefault(path.name, []).append(found)
    print(f"{arguments.bundle}, {backend}, {arguments.rounds} rounds of {arguments.number}: median (lowest–highest)")
    print("texts | service ms | bare call ms | ratio | difference ms")
    for name, each in rounds.items():
        served, alone = (list(column) for column in zip(*each, strict=True))
        ratios = [one / other for one, other in zip(served, alone, strict=True)]
        added = [one - other for one, other in zip(served, alone, strict=True)]
        columns = (_shown(served), _shown(alone), _shown(ratios), _shown(added))
        print(" | ".join((name, *columns)))


def _text(body: bytes) -> str:
    """What a body asks about."""
    inputs: str = json.loads(body)["inputs"]
    return inputs


def _shown(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


if __name__ == "__main__":
    main()
