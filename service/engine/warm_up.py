"""Runs a graph before it serves, so that the first requests do not wait for kernels and memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from math import prod

from service.engine.tensors import Tensors
from service.messages.inference import Output, Ready
from service.messages.launch import BatchingOptions
from service.runtime.base import Runtime

WARM_UP_SECONDS = 5.0


def warm_up(
    runtime: Runtime, tensors: Tensors, options: BatchingOptions, clock: Callable[[], float] = time.monotonic
) -> Ready:
    """Runs a short text, the longest text and a full batch; then all shapes, if the runtime has a limited number.

    Small shapes run first. After WARM_UP_SECONDS the other shapes are skipped: the larger a batch is, the less the time
    matters in which its kernels are compiled. Raises BundleError if the number of classes of the graph differs from the
    number of labels of the bundle, and OutputError.
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
    return Ready(len(output.scores), runtime.backend, clock() - started)
