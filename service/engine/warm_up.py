"""Runs a graph before it serves, so that the first requests do not wait for kernels and memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from math import prod

import numpy as np

from service.engine.scores import ScoreRule, rule_of
from service.engine.tensors import Tensors, matrix
from service.messages.inference import Output, Ready
from service.messages.launch import BatchingOptions
from service.runtime.base import Runtime

WARM_UP_SECONDS = 5.0
VARIED_TEXTS = 8
"""Number of different texts that show what the outputs of a classifier are."""


def warm_up(
    runtime: Runtime, tensors: Tensors, options: BatchingOptions, clock: Callable[[], float] = time.monotonic
) -> Ready:
    """Runs a short text, the longest text and a full batch; then all shapes, if the runtime has a limited number.

    Small shapes run first. After WARM_UP_SECONDS the other shapes are skipped: the larger a batch is, the less the time
    matters in which its kernels are compiled. Then sets the rule by which outputs become scores. Raises BundleError if
    the number of classes of the graph differs from the number of labels of the bundle, and OutputError.
    """
    started = clock()
    longest = tensors.max_length
    usual = min(128, longest)
    rows = max(1, min(options.max_batch_items, options.max_batch_tokens // usual))
    few = sorted(tensors.shapes.all(options.max_batch_tokens, options.max_batch_items, longest), key=prod)

    def run(stream: int) -> Output:
        for shape in ((1, min(8, longest)), (rows, usual), (1, longest)):
            output = tensors.forward(runtime, tensors.example(*shape), stream)[0]
        for shape in takewhile(lambda _: clock() - started < WARM_UP_SECONDS, few):
            tensors.forward(runtime, tensors.example(*shape), stream)
        return output

    with ThreadPoolExecutor(runtime.streams) as threads:
        output, *_ = threads.map(run, range(runtime.streams))
    tensors.check_labels(output)
    if not tensors.fill_mask:
        tensors.rule = _score_rule(runtime, tensors)
    rule = tensors.rule
    return Ready(len(output.scores), runtime.backend, clock() - started, rule.scores, rule.in_graph)


def _score_rule(runtime: Runtime, tensors: Tensors) -> ScoreRule:
    """The rule that fits the outputs of the graph for texts that differ; each is one row, as its shape has been run."""
    items = tensors.varied(VARIED_TEXTS, min(8, tensors.max_length))
    outputs = [matrix(runtime.run(tensors.inputs([item]))["logits"]) for item in items]
    return rule_of(tensors.rule.scores, tensors.graphs, np.concatenate(outputs))
