"""A runtime without a server: the upper bound for a service that uses it.

The same texts, runtime, streams and threads as in the service. Texts are tokenised and padded before the measurement,
so that it contains forward passes only; texts of similar length share a batch, which is impossible for a service that
answers at once.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.serving.offline import Alone, Arrays, Item, Runtime, RuntimeUnavailable, runtime_options

BATCHES = (1, 8, 32)
"""Texts in a batch; 1 is one text at a time."""


def batches_by_length(texts: Sequence[Item], size: int) -> list[list[Item]]:
    """Batches of `size` texts of similar length, shuffled."""
    ranked = sorted(texts, key=lambda each: len(each.input_ids))
    batches = [ranked[start : start + size] for start in range(0, len(ranked), size)]
    random.Random(1).shuffle(batches)
    return batches


def texts_per_second(runtime: Runtime, batches: Sequence[tuple[int, Arrays]], seconds: float) -> float:
    """The rate of concurrent forward passes, one for each stream of the runtime; `batches` are (texts, inputs)."""
    numbers = itertools.count()  # shared: each stream takes the next batch
    end = time.perf_counter() + seconds

    def run(stream: int) -> int:
        done = 0
        while time.perf_counter() < end:
            texts, inputs = batches[next(numbers) % len(batches)]
            runtime.run(inputs, stream)
            done += texts
        return done

    begun = time.perf_counter()
    with ThreadPoolExecutor(runtime.streams) as pool:
        done = sum(pool.map(run, range(runtime.streams)))
    return done / (time.perf_counter() - begun)


def ceiling(
    directory: Path, flags: Sequence[str], texts: Mapping[str, Sequence[str]], seconds: float
) -> dict[str, Any]:
    """`streams`, and `rates` in texts per second by kind of text and batch size; or a `refusal` of the runtime."""
    try:
        alone = Alone(directory, runtime_options(flags))
    except RuntimeUnavailable as error:
        return {"refusal": str(error)}
    runtime = alone.runtime
    rates: dict[str, dict[str, float]] = {}
    for kind, given in texts.items():
        for size in BATCHES:
            batches = [(len(each), alone.inputs(each)) for each in batches_by_length(alone.items(given), size)]
            for inputs in {inputs["input_ids"].shape: inputs for _, inputs in batches}.values():
                for stream in range(runtime.streams):
                    runtime.run(inputs, stream)  # kernels are made for new shapes
            rates.setdefault(kind, {})[str(size)] = texts_per_second(runtime, batches, seconds)
    return {"streams": runtime.streams, "rates": rates}
