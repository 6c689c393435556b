"""Samples per second of the sample map, the permutation and blending, and of PaddleNLP's C++ helper in the same run.

    python -m benchmarks.sample_map --documents 1000000

The helper is the package `tool_helpers`, which PaddleNLP installs; it writes out all epochs and shuffles them, where we
write one epoch and permute it in closed form. Both are asked for as many epochs of the same corpus, on one core.
Seconds are those of the processor, so that what else the machine does counts for neither.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import time
from collections.abc import Callable

import numpy as np

import native
from benchmarks.synthetic_corpus import synthetic_corpus

try:
    from tool_helpers import helpers
except ImportError:  # PaddleNLP's dependency, absent without the training extra
    helpers = None

PUBLISHED = "6–9.5 M samples/s for the map, 48 / 19.5 / 5.7 M/s for blends of 3 / 16 / 128 (measured elsewhere)"


def rate(work: Callable[[], int]) -> float:
    """Millions of samples a second of processor time of one call, which returns how many it made."""
    begun = time.process_time()
    made = work()
    return made / (time.process_time() - begun) / 1e6


def compare(title: str, rounds: int, ours: Callable[[], int], reference: Callable[[], int] | None) -> None:
    """Ours and the reference in turn; the ratio is taken within each round."""
    both = [(rate(ours), rate(reference) if reference else float("nan")) for _ in range(rounds)]
    mine, theirs = zip(*both, strict=True)
    line = f"{title:<44} {spread(mine)} M samples/s"
    if reference:
        line += f"; tool_helpers {spread(theirs)}; ratio {spread([a / b for a, b in both])}"
    print(line)


def spread(values: tuple[float, ...] | list[float]) -> str:
    """`median (lowest–highest)`."""
    return f"{statistics.median(values):.1f} ({min(values):.1f}–{max(values):.1f})"


def main() -> None:
    """Runs the rounds and prints a line for each part."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sample_map", description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=1_000_000, help="of the synthetic corpus (default: 1000000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each part (default: 5)")
    parser.add_argument("--max-seq-length", type=int, default=512, help="tokens of a sample (default: 512)")
    arguments = parser.parse_args()
    corpus = synthetic_corpus(arguments.documents, with_tokens=False)
    window = arguments.max_seq_length - 3
    sizes = np.diff(corpus.offsets).astype(np.int32)
    print(f"{len(sizes):,} sentences of {arguments.documents:,} documents; median (lowest–highest) of the rounds")
    if helpers is None:
        print(f"tool_helpers is not installed; its published figures: {PUBLISHED}")

    def our_map() -> int:
        rows, _ = native.build_sample_map(
            corpus.offsets,
            corpus.documents,
            tokens=len(corpus.tokens),
            first=0,
            last=arguments.documents,
            window=window,
            short_seq_prob=0.1,
            pairs=True,
            seed=1,
        )
        return len(rows)

    def helpers_map(epochs: int) -> Callable[[], int]:
        def build() -> int:
            with contextlib.redirect_stdout(io.StringIO()):
                rows = helpers.build_mapping(corpus.documents, sizes, epochs, 2**62, window, 0.1, 1, False, 2)
            return len(rows)

        return build

    samples = our_map()

    def our_epochs(epochs: int) -> Callable[[], int]:
        positions = np.arange(epochs * samples, dtype=np.int64)

        def order() -> int:
            our_map()
            native.permute(positions, size=samples, seed=1)
            return len(positions)

        return order

    compare("map of one epoch, in corpus order", arguments.rounds, our_map, helpers and helpers_map(1))
    for epochs in (1, 4):
        title = f"map and shuffled order of {epochs} epoch{'s' * (epochs > 1)}"
        compare(title, arguments.rounds, our_epochs(epochs), helpers and helpers_map(epochs))
    positions = np.arange(5_000_000, dtype=np.int64)
    compare(
        "permutation alone",
        arguments.rounds,
        lambda: len(native.permute(positions, size=samples, seed=1)[1]),
        None,
    )
    for corpora in (3, 16, 128):
        weights = np.random.default_rng(1).integers(1, 100, corpora)

        def ours(weights: np.ndarray = weights) -> int:
            return len(native.Blending(weights.tolist()).at(positions)[0])

        def theirs(weights: np.ndarray = weights) -> int:
            chosen, index = np.zeros(len(positions), np.int16), np.zeros(len(positions), np.int64)
            helpers.build_blending_indices(chosen, index, weights / weights.sum(), len(weights), len(positions), False)
            return len(chosen)

        compare(f"blend of {corpora} corpora", arguments.rounds, ours, helpers and theirs)


if __name__ == "__main__":
    main()
