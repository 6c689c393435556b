"""A graph as a bundle, so that the runtimes of the service can run it: to compare graphs of one model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from model_build.bundle import Bundle, Manifest, Task, TokenizerSettings
from model_build.config import ErnieConfig
from model_build.export import Graph, parity_batches, write_bundle
from model_build.quantization import quantize
from model_build.runners import Arrays
from model_build.settings import QuantizeSettings

FIRST_TOKEN = 5
"""Smaller ids are special tokens."""


def random_batches(config: ErnieConfig, task: Task, count: int, longest: int = 64) -> list[Arrays]:
    """Batches of random tokens, rows of different length: for parity and calibration, where no text is needed."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        lengths = rng.integers(longest // 4, longest, 4)
        rows = [[1, *rng.integers(FIRST_TOKEN, config.vocab_size, length), 2] for length in lengths]
        found.append(parity_batches(rows, task, mask_id=3, pad_id=config.pad_token_id)[-1])
    return found


def write(
    graph: Graph, config: ErnieConfig, task: Task, models: Path, name: str, batches: Sequence[Arrays] | None = None
) -> Bundle:
    """Exports `graph` to `<models>/<name>/1`, checked on `batches` or random tokens; its vocabulary is of numbers."""
    vocab = models / "vocab.txt"
    models.mkdir(parents=True, exist_ok=True)
    vocab.write_text("".join(f"{number}\n" for number in range(config.vocab_size)), encoding="utf-8")
    manifest = Manifest(
        name=name, version="1", task=task, architecture=config.to_dict(), max_length=512, tokenizer=TokenizerSettings(),
        labels=["negative", "positive"] if task == "classify" else [], graphs={}, inputs=[], outputs=[],
        top_candidates=100 if task == "fill-mask" else None,
    )  # fmt: skip
    return write_bundle(graph, manifest, vocab, batches or _fed(graph, random_batches(config, task, 2)), models)


def in_int8(bundle: Bundle, graph: Graph, config: ErnieConfig, batches: Sequence[Arrays] | None = None) -> Bundle:
    """The bundle quantised as version 2, calibrated on `batches` or on random tokens: as fast as after real ones."""
    found = batches or _fed(graph, random_batches(config, bundle.manifest.task, 8))
    return quantize(bundle, bundle.directory.parent / "2", QuantizeSettings(), found)


def _fed(graph: Graph, batches: Sequence[Arrays]) -> list[Arrays]:
    """The arrays that the graph takes."""
    return [{spec.name: inputs[spec.name].astype(spec.dtype) for spec in graph.input_specs} for inputs in batches]
