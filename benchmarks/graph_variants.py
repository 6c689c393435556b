"""Other ways to write down the exported classifier, beside the way it is exported: what each is worth in each runtime.

    python -m benchmarks.graph_variants --shapes 1x22 1x128 8x128 64x22 64x128

All have the same random weights and read the same texts in alternating rounds on one thread. A ratio above 1 says that
the variant is faster than the graph as `ernie-build export` writes it. One whose answers differ by more than 1e-4 from
those ends the command.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np

from benchmarks.all_logits import RUNTIMES, label
from benchmarks.matrix_peak import onnxruntime_run, openvino_run
from benchmarks.rounds import alternate, ratio
from model_build.bundle import Bundle, open_bundle
from service.runtime.base import RuntimeOptions

MAX_DIFFERENCE = 1e-4
EXPORTED = "as exported"


@dataclass(frozen=True)
class Way:
    """How a graph is written down; the defaults are those of the export."""

    last: str = "first token"
    """`first token`, `keys and values` (the first token's query, but all keys and values), or `whole`"""
    joined: bool = False
    """one product gives Q, K and V"""
    scaled: bool = False
    """the weights of the query hold the root of the head's width"""
    positions: str = "cumsum"
    """`cumsum`, `range` of the length, or a `slice` of the table without a lookup"""
    one_table: bool = False
    """position, type and task are one lookup in a table of all pairs"""
    integers: str = "int64"
    probabilities: bool = False
    opset: int = 13
    fused_by_onnxruntime: bool = False
    """the tool of ONNX Runtime writes its own operators for attention, norms and GELU into the file"""


WAYS = {
    EXPORTED: Way(),
    "the same once more": Way(),
    "whole last layer": Way(last="whole"),
    "keys and values in the last layer": Way(last="keys and values"),
    "Q, K, V in one product": Way(joined=True),
    "scale in the query's weights": Way(scaled=True),
    "positions from a range": Way(positions="range"),
    "positions by a slice": Way(positions="slice"),
    "one table of positions and types": Way(one_table=True),
    "int32 inputs": Way(integers="int32"),
    "softmax inside": Way(probabilities=True),
    "opset 17": Way(opset=17),
    "fusions of onnxruntime.transformers": Way(fused_by_onnxruntime=True),
    "the same, Q, K, V in one product": Way(fused_by_onnxruntime=True, joined=True),
}


def fuse(bundle: Bundle) -> None:
    """Writes the ONNX graph anew with the operators of ONNX Runtime; those that only approximate stay out."""
    from onnxruntime.transformers import optimizer

    path = bundle.graph("onnx")[0]
    shape = bundle.manifest.architecture
    made = optimizer.optimize_model(
        str(path), "bert", num_heads=shape["num_attention_heads"], hidden_size=shape["hidden_size"], opt_level=0,
    )  # fmt: skip
    print(f"{bundle.manifest.name}: {made.get_fused_operator_statistics()}", flush=True)
    made.save_model_to_file(str(path))


def write_all(variant: str, models: Path, names: list[str]) -> None:
    """Every way as `<models>/<number>/1`, with the same weights."""
    import paddle

    from benchmarks.graph_bundle import write
    from benchmarks.graph_ways import Variant
    from model_build.config import variant as config_of
    from model_build.heads import ErnieForSequenceClassification

    paddle.seed(1)
    config = config_of(variant)
    model = ErnieForSequenceClassification(config, 2)
    model.eval()
    for name in names:
        way = WAYS[name]
        with mock.patch("model_build.export.ONNX_OPSET", way.opset):
            bundle = write(Variant(model, way), config, "classify", models, str(list(WAYS).index(name)))
        if way.fused_by_onnxruntime:
            fuse(bundle)


def run_of(bundle: Bundle, options: RuntimeOptions) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """The bundle's graph in a runtime, below the service's checks, which let int64 pass alone."""
    if options.runtime == "fastdeploy":
        import fastdeploy as fd

        from service.runtime.fastdeploy import runtime_option

        fd.set_logger(False, False)
        loaded = fd.Runtime(runtime_option(bundle, options, options.backend))
        return lambda inputs: loaded.infer(inputs)[0]
    load = openvino_run if options.runtime == "openvino" else onnxruntime_run
    run = load(bundle.graph("onnx")[0].read_bytes(), "fp32", 1)
    return lambda inputs: np.array(run(inputs)[0])  # type: ignore[index]


def takes(options: RuntimeOptions, way: Way) -> bool:
    """Whether the runtime can show a difference: operators of ONNX Runtime are its own, and Paddle reads no ONNX."""
    onnx_runtime = options.runtime == "onnxruntime" or options.backend == "ort"
    if way.fused_by_onnxruntime:
        return onnx_runtime
    if way.opset != WAYS[EXPORTED].opset:
        return options.backend != "paddle"
    return True


def compare(models: Path, options: RuntimeOptions, shape: tuple[int, int], names: list[str], rounds: int) -> list[str]:
    """The cells of one column, by name in the order of `names`; raises SystemExit for other answers."""
    runs = {}
    answers = {}
    ids = np.random.default_rng(3).integers(5, 9000, shape)
    for row in range(1, shape[0], 2):
        ids[row, shape[1] - row % (shape[1] // 2) :] = 0
    for name in names:
        if not takes(options, WAYS[name]):
            continue
        kind = WAYS[name].integers
        inputs = {"input_ids": ids.astype(kind), "token_type_ids": np.zeros(shape, kind)}
        run = run_of(open_bundle(models / str(list(WAYS).index(name)) / "1"), options)
        runs[name] = lambda run=run, inputs=inputs: run(inputs)
        answers[name] = run(inputs)
    exponents = np.exp(answers[EXPORTED])
    for name, answer in answers.items():
        want = exponents / exponents.sum(1, keepdims=True) if WAYS[name].probabilities else answers[EXPORTED]
        if not np.abs(answer - want).max() < MAX_DIFFERENCE:
            raise SystemExit(f"{name} differs by {np.abs(answer - want).max():.1e} in {label(options)}.")
    seconds = alternate(runs, rounds)
    cells = []
    for name in names:
        if name == EXPORTED:
            cells.append(f"{statistics.median(seconds[name]) * 1e3:.1f} ms")
        else:
            cells.append(f"{ratio(seconds[EXPORTED], seconds[name]):.2f}" if name in seconds else "–")
    return cells


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.graph_variants", description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="ernie-3.0-nano-zh", help="shape of the model, with random weights")
    parser.add_argument("--shapes", nargs="+", default=["1x22", "8x128", "64x22"], help="texts by tokens of a batch")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), help="some of them, by name")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    names = [EXPORTED, *(name for name in arguments.ways if name != EXPORTED)]
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own: FastDeploy brings a Paddle that does not bear another beside it.
        write = multiprocessing.get_context("spawn").Process(
            target=write_all, args=(arguments.variant, Path(folder), names)
        )
        write.start()
        write.join()
        if write.exitcode:
            raise SystemExit("the graphs could not be written; the reason stands above.")
        columns = []
        for (runtime, backend), shape in itertools.product(RUNTIMES, arguments.shapes):
            rows, length = map(int, shape.split("x"))
            options = RuntimeOptions(runtime=runtime, backend=backend, cpu_threads=1)
            cells = compare(Path(folder), options, (rows, length), names, arguments.rounds)
            columns.append([f"{label(options)} {rows}×{length}", *cells])
        for number, row in enumerate(zip(["", *names], *columns, strict=True)):
            print("| " + " | ".join(row) + " |" + ("\n" + "|---" * len(row) + "|" if not number else ""))


if __name__ == "__main__":
    main()
