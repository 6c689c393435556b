"""What a runtime does with no server in front of it: the most that a service on it could reach.

The same texts, runtime, streams and threads as in the service. Texts are tokenised and padded before the time runs, so
the ceiling has forward passes only; texts of similar length share a batch, as no service that answers at once can
have it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from model_build.bundle import Bundle, open_bundle
from service.engine.messages import Item
from service.engine.shapes import AnyShape, FewShapes
from service.engine.tensors import Tensors
from service.runtime.base import Runtime, RuntimeOptions, RuntimeUnavailable
from service.runtime.load import load_runtime
from service.tokenization import tokenizer_named

BATCHES = (1, 8, 32)
"""Texts in a batch; 1 is one text at a time."""

Arrays = dict[str, np.ndarray]


def items(bundle: Bundle, texts: Sequence[str]) -> list[Item]:
    """Texts as the service's engine gets them, cut to the model's length."""
    manifest = bundle.manifest
    tokenizer = tokenizer_named("native", bundle.vocab_path, manifest.tokenizer.do_lower_case)

    async def encoded() -> list[Item]:
        found = [await tokenizer.encode(text, None, manifest.max_length) for text in texts]
        masks = [each.mask_positions if manifest.task == "fill-mask" else [] for each in found]
        return [Item(each.input_ids, each.token_type_ids, columns) for each, columns in zip(found, masks, strict=True)]

    return asyncio.run(encoded())


def batches_by_length(texts: Sequence[Item], size: int) -> list[list[Item]]:
    """Batches of `size` neighbours in length, in an order that has nothing to do with it."""
    ranked = sorted(texts, key=lambda each: len(each.input_ids))
    batches = [ranked[start : start + size] for start in range(0, len(ranked), size)]
    random.Random(1).shuffle(batches)
    return batches


def texts_per_second(runtime: Runtime, batches: Sequence[tuple[int, Arrays]], seconds: float) -> float:
    """Of as many forward passes beside each other as the runtime has streams; `batches` are (texts, inputs)."""
    numbers = itertools.count()  # shared: each stream takes the next batch
    over = time.perf_counter() + seconds

    def run(stream: int) -> int:
        done = 0
        while time.perf_counter() < over:
            texts, inputs = batches[next(numbers) % len(batches)]
            runtime.run(inputs, stream)
            done += texts
        return done

    began = time.perf_counter()
    with ThreadPoolExecutor(runtime.streams) as pool:
        done = sum(pool.map(run, range(runtime.streams)))
    return done / (time.perf_counter() - began)


def measure(directory: Path, options: RuntimeOptions, texts: Mapping[str, Sequence[str]], seconds: float) -> None:
    """The process of one runtime: a line of JSON with texts per second by kind of text and texts in a batch."""
    bundle = open_bundle(directory)
    try:
        runtime = load_runtime(bundle, options)
    except RuntimeUnavailable as error:
        print(json.dumps({"refusal": str(error)}))
        return
    tensors = Tensors(bundle, FewShapes() if runtime.compiles_shapes else AnyShape())
    rates: dict[str, dict[str, float]] = {}
    for kind, given in texts.items():
        for size in BATCHES:
            batches = [(len(each), tensors.inputs(each)) for each in batches_by_length(items(bundle, given), size)]
            for inputs in {inputs["input_ids"].shape: inputs for _, inputs in batches}.values():
                for stream in range(runtime.streams):
                    runtime.run(inputs, stream)  # kernels are made for new shapes
            rates.setdefault(kind, {})[str(size)] = texts_per_second(runtime, batches, seconds)
    print(json.dumps({"streams": runtime.streams, "rates": rates}))


def ceiling(bundle: Bundle, options: RuntimeOptions, texts: Path, seconds: float) -> dict[str, Any]:
    """`measure` in a process of its own; `texts` is a file of what it takes, as JSON. Raises RuntimeError."""
    command = [sys.executable, "-m", "benchmarks.ceiling", str(bundle.directory)]
    command += [msgspec.json.encode(options).decode(), str(texts), str(seconds)]
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(f"the offline run of {options.runtime} failed:\n{ended.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(ended.stdout.rstrip().rpartition("\n")[2])
    return found


if __name__ == "__main__":
    given, options, texts, seconds = sys.argv[1:]
    measure(
        Path(given),
        msgspec.json.decode(options, type=RuntimeOptions),
        json.loads(Path(texts).read_text(encoding="utf-8")),
        float(seconds),
    )
