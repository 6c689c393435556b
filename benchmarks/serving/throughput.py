"""Requests per second and latency of both endpoints, with dynamic batching and with one text at a time.

    python -m benchmarks.serving.throughput --models models --connections 32

Two services run side by side, one of them with batches of one text, and are loaded in turn.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

from benchmarks.arguments import parser_of
from benchmarks.rounds import alternate, ratios, spread
from benchmarks.serving.closed_loop import Load, closed_loop
from benchmarks.serving.service import serving
from benchmarks.serving.texts import TEXTS, bodies_of, read_texts

BATCHING, SINGLE = "dynamic batching", "one text at a time"


def measure(arguments: argparse.Namespace, endpoint: str, urls: dict[str, str]) -> None:
    """Prints the figures of one endpoint."""
    texts = read_texts(arguments.texts) if arguments.texts else TEXTS
    loads = {name: Load(url, endpoint, bodies_of(endpoint, texts)) for name, url in urls.items()}
    for load in loads.values():
        closed_loop(load, arguments.connections, 1)  # not counted
    calls = {
        name: functools.partial(closed_loop, load, arguments.connections, arguments.seconds)
        for name, load in loads.items()
    }
    found = alternate(calls, arguments.rounds)
    print(f"{endpoint}, {arguments.connections} connections, {arguments.rounds} rounds: median (lowest–highest)")
    for name, loops in found.items():
        print(
            f"  {name:<19} {spread([each.rate for each in loops])} requests/s, "
            f"p50 {spread([each.p50 for each in loops], ' ms')}, p99 {spread([each.p99 for each in loops], ' ms')}"
        )
    rates = ([each.rate for each in found[name]] for name in (BATCHING, SINGLE))
    print(f"  requests/s, ratio   {spread(ratios(*rates))}")


def main() -> None:
    """The command."""
    parser = parser_of(__doc__, models=True, rounds=5, seconds=5)
    parser.add_argument("--texts", type=Path, help="one text a line, or .tsv (default: ten reviews and news)")
    parser.add_argument("--connections", type=int, default=32, help="requests in flight (default: 32)")
    arguments = parser.parse_args()
    with serving(arguments.models) as one, serving(arguments.models, "--max-batch-items", "1") as other:
        for endpoint in ("/classify", "/fill-mask"):
            measure(arguments, endpoint, {BATCHING: one.url, SINGLE: other.url})


if __name__ == "__main__":
    main()
