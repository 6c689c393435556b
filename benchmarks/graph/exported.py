"""The exported graphs compared with the plain forward pass of the same model, in every runtime, on one thread.

    python -m benchmarks.graph.exported --shapes 1x22 8x128

Both graphs have the same randomly initialised weights. A ratio above 1 means that the exported graph is faster.

Classifier: the exported graph computes the last layer for the first token alone, the plain one for every token.
Masked LM: the exported graph gathers the masked tokens and chooses the 100 most probable ones itself; the plain one
returns all logits [B, S, V], of which NumPy takes the masked rows, the 100 largest by `argpartition`, and their
probabilities. Texts have one mask each.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.arguments import parser_of
from benchmarks.processes import separately
from benchmarks.rounds import alternate, cpu_seconds, ratios, spread, table
from model_build.bundle import Task, open_bundle
from service.runtime.base import Backend, RuntimeName, RuntimeOptions, RuntimeUnavailable
from service.runtime.choice import load_runtime

TOP = 100
MASK = 3
MAX_DIFFERENCE = 1e-4
RUNTIMES: tuple[tuple[RuntimeName, Backend], ...] = (
    ("openvino", "auto"),
    ("onnxruntime", "auto"),
    ("fastdeploy", "ort"),
    ("fastdeploy", "paddle"),
)


def top_of(logits: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Logits [B, S, V] and flat positions [N] -> probabilities of the most probable tokens [N, 100], falling."""
    rows = logits.reshape(-1, logits.shape[-1])[positions]
    chosen = np.argpartition(rows, -TOP, axis=1)[:, -TOP:]
    exponents = np.exp(rows - rows.max(axis=1, keepdims=True))
    scores = np.take_along_axis(exponents, chosen, axis=1) / exponents.sum(axis=1, keepdims=True)
    return -np.sort(-scores, axis=1)


def write_bundles(variant: str, vocabulary: int, task: Task, models: Path) -> None:
    """`exported/1` and `plain/1` in `models`, and `/2` in int8."""
    import paddle
    from paddle import Tensor

    from benchmarks.graph.bundle import in_int8, write
    from model_build.bundle import TensorSpec
    from model_build.config import variant as config_of
    from model_build.export import FillMaskGraph, Graph, LogitsGraph
    from model_build.heads import ErnieForMaskedLM, ErnieForSequenceClassification

    class Plain(Graph):
        """The forward pass of the model as it is trained."""

        def __init__(self, model: ErnieForMaskedLM | ErnieForSequenceClassification, shape: list[int]) -> None:
            super().__init__(model)
            self.output_specs = (TensorSpec(name="logits", dtype="float32", shape=shape),)

        def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
            """[B, S] int64 each -> logits."""
            return self.model(input_ids, token_type_ids)

    paddle.seed(1)
    config = dataclasses.replace(config_of(variant), vocab_size=vocabulary)
    graphs: tuple[Graph, Graph]
    if task == "classify":
        classifier = ErnieForSequenceClassification(config, 2)
        graphs = LogitsGraph(classifier, 2), Plain(classifier, [-1, 2])
    else:
        lm = ErnieForMaskedLM(config)
        graphs = FillMaskGraph(lm, vocabulary, TOP), Plain(lm, [-1, -1, vocabulary])
    for name, graph in zip(("exported", "plain"), graphs, strict=True):
        in_int8(write(graph, config, task, models, name), graph, config)


def calls_of(
    models: Path, task: Task, version: str, options: RuntimeOptions, ids: np.ndarray
) -> list[Callable[[], np.ndarray]]:
    """The exported and the plain way to the same answer. Raises RuntimeUnavailable."""
    exported, plain = (load_runtime(open_bundle(models / name / version), options) for name in ("exported", "plain"))
    texts = {"input_ids": ids, "token_type_ids": np.zeros_like(ids)}
    if task == "classify":
        return [lambda: exported.run(texts)["logits"], lambda: plain.run(texts)["logits"]]
    positions = np.flatnonzero(ids == MASK)
    asked = {**texts, "mask_positions": positions, "target_ids": ids[:, :1].copy()}
    return [lambda: exported.run(asked)["top_scores"], lambda: top_of(plain.run(texts)["logits"], positions)]


def rows_of(models: Path, task: Task, arguments: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    """A row of the table for each runtime, precision and shape; what cannot run here is left out."""
    for (runtime, backend), version, shape in itertools.product(RUNTIMES, "12", arguments.shapes):
        options = RuntimeOptions(runtime=runtime, backend=backend, cpu_threads=1)
        batch, length = map(int, shape.split("x"))
        ids = np.random.default_rng(2).integers(5, arguments.vocabulary, (batch, length))
        ids[:, length // 2] = MASK
        with contextlib.suppress(RuntimeUnavailable):
            calls = dict(zip(("exported", "plain"), calls_of(models, task, version, options, ids), strict=True))
            difference = np.abs(calls["exported"]() - calls["plain"]()).max()
            if version == "1" and not difference < MAX_DIFFERENCE:
                raise SystemExit(f"the answers differ by {difference:.1e} in {runtime}.")
            found = alternate({name: cpu_seconds(call) for name, call in calls.items()}, arguments.rounds)
            milliseconds = (spread(1000 * each for each in found[name]) for name in ("exported", "plain"))
            kind = runtime if backend == "auto" else f"{runtime} {backend}"
            name = f"{kind} {'int8' if version == '2' else 'fp32'}"
            ratio = spread(ratios(found["plain"], found["exported"]))
            yield (f"{task}, {name}", shape, *milliseconds, ratio, f"{difference:.0e}")


def main() -> None:
    """The command."""
    parser = parser_of(__doc__, rounds=7)
    parser.add_argument("--variant", default="ernie-3.0-nano-zh", help="shape of the model, with random weights")
    parser.add_argument("--vocabulary", type=int, default=18000, help="tokens (default: 18000)")
    parser.add_argument("--shapes", nargs="+", default=["1x128", "8x128"], help="texts by tokens of a batch")
    parser.add_argument("--tasks", nargs="+", default=["classify", "fill-mask"], choices=("classify", "fill-mask"))
    arguments = parser.parse_args()
    print(f"{arguments.variant}, {arguments.vocabulary} tokens, one thread, milliseconds of CPU time")
    for task in arguments.tasks:
        with tempfile.TemporaryDirectory() as folder:
            separately(write_bundles, arguments.variant, arguments.vocabulary, task, Path(folder))
            head = ("graph", "batch", "exported", "plain", "ratio", "largest difference")
            print(table(head, rows_of(Path(folder), task, arguments)), flush=True)


if __name__ == "__main__":
    main()
