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
    """Runs the shapes that serving will need: short, longest and a full batch; and all shapes, if they are few.

    Small shapes come first. After WARM_UP_SECONDS the rest is left to serving: the larger a batch is, the less it
    matters that its kernels are compiled first. Raises BundleError if the graph has another number of classes than the
    bundle has labels, and OutputError.
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
