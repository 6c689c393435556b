"""The exported masked LM beside the same model's graph that returns all logits, in every runtime, on one thread.

    python -m benchmarks.all_logits --vocabulary 18000 --length 128

Texts have one mask each. Behind the graph of all logits [B, S, V], NumPy takes the masked rows, finds the 100 largest
by `argpartition`, and makes probabilities of them; the exported graph does that inside. Their answers are compared.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import multiprocessing
import statistics
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.rounds import alternate, ratio
from model_build.bundle import open_bundle
from service.runtime.base import Backend, RuntimeName, RuntimeOptions, RuntimeUnavailable
from service.runtime.load import load_runtime

TOP = 100
RUNTIMES: tuple[tuple[RuntimeName, Backend], ...] = (
    ("openvino", "auto"),
    ("onnxruntime", "auto"),
    ("fastdeploy", "ort"),
    ("fastdeploy", "paddle"),
)


def label(options: RuntimeOptions) -> str:
    """The runtime, and of FastDeploy which backend."""
    return options.runtime if options.backend == "auto" else f"{options.runtime} {options.backend}"


def top_of(logits: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Logits [B, S, V] and flat positions [N] -> probabilities of the likeliest tokens [N, 100], falling."""
    rows = logits.reshape(-1, logits.shape[-1])[positions]
    chosen = np.argpartition(rows, -TOP, axis=1)[:, -TOP:]
    exponents = np.exp(rows - rows.max(axis=1, keepdims=True))
    scores = np.take_along_axis(exponents, chosen, axis=1) / exponents.sum(axis=1, keepdims=True)
    return -np.sort(-scores, axis=1)


def write_bundles(variant: str, vocabulary: int, models: Path) -> None:
    """`gathered/1` and `all/1` in `models`, and `/2` in int8."""
    import paddle
    from paddle import Tensor

    from benchmarks.graph_bundle import in_int8, write
    from model_build.bundle import TensorSpec
    from model_build.config import variant as config_of
    from model_build.export import FillMaskGraph, Graph
    from model_build.heads import ErnieForMaskedLM

    class AllLogits(Graph):
        """Returns them all."""

        def __init__(self, model: ErnieForMaskedLM) -> None:
            super().__init__(model)
            self.output_specs = (TensorSpec(name="logits", dtype="float32", shape=[-1, -1, vocabulary]),)

        def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
            """[B, S] int64 each -> [B, S, V]."""
            return self.model(input_ids, token_type_ids)

    paddle.seed(1)
    config = dataclasses.replace(config_of(variant), vocab_size=vocabulary)
    model = ErnieForMaskedLM(config)
    for name, graph in (("gathered", FillMaskGraph(model, vocabulary, TOP)), ("all", AllLogits(model))):
        in_int8(write(graph, config, "fill-mask", models, name), graph, config)


def compare(models: Path, version: str, options: RuntimeOptions, batch: int, arguments: argparse.Namespace) -> str:
    """One row of the table."""
    gathered, everything = (load_runtime(open_bundle(models / name / version), options) for name in ("gathered", "all"))
    shape = (batch, arguments.length)
    ids = np.random.default_rng(2).integers(5, arguments.vocabulary, shape)
    positions = np.arange(batch) * arguments.length + arguments.length // 2
    ids.ravel()[positions] = 3
    texts = {"input_ids": ids, "token_type_ids": np.zeros_like(ids)}
    asked = {**texts, "mask_positions": positions, "target_ids": ids[:, :1].copy()}
    ways = {
        "gathered": lambda: gathered.run(asked)["top_scores"],
        "all": lambda: top_of(everything.run(texts)["logits"], positions),
    }
    difference = np.abs(ways["gathered"]() - ways["all"]()).max()
    seconds = alternate(ways, arguments.rounds)
    milliseconds = {name: f"{statistics.median(found) * 1e3:.1f}" for name, found in seconds.items()}
    return (
        f"| {label(options)} {'int8' if version == '2' else 'fp32'} | {batch}×{arguments.length} "
        f"| {milliseconds['gathered']} | {milliseconds['all']} | {ratio(seconds['all'], seconds['gathered']):.2f} "
        f"| {difference:.0e} |"
    )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.all_logits", description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="ernie-3.0-nano-zh", help="shape of the model, with random weights")
    parser.add_argument("--vocabulary", type=int, default=18000, help="tokens (default: 18000)")
    parser.add_argument("--length", type=int, default=128, help="tokens of a text (default: 128)")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8], help="texts of a batch (default: 1 8)")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own: FastDeploy brings a Paddle that does not bear another beside it.
        write = multiprocessing.get_context("spawn").Process(
            target=write_bundles, args=(arguments.variant, arguments.vocabulary, Path(folder))
        )
        write.start()
        write.join()
        if write.exitcode:
            raise SystemExit("the graphs could not be written; the reason stands above.")
        print(f"{arguments.variant}, {arguments.vocabulary} tokens, one thread, milliseconds of CPU\n")
        print(
            "| runtime | batch | gathered inside | all logits | ratio | scores differ by |\n|---|---|---|---|---|---|"
        )
        for (runtime, backend), version in itertools.product(RUNTIMES, "12"):
            options = RuntimeOptions(runtime=runtime, backend=backend, cpu_threads=1)
            # FastDeploy's Paddle backend reads no int8, and what is not installed is left out.
            with contextlib.suppress(RuntimeUnavailable):
                for batch in arguments.batches:
                    print(compare(Path(folder), version, options, batch, arguments), flush=True)


if __name__ == "__main__":
    main()
