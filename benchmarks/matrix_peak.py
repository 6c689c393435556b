"""What this machine's matrix products reach, and which share of it whole models do, in the same precision.

    python -m benchmarks.matrix_peak BUNDLE [BUNDLE …] --threads 1 2

The peak is the best of several runs of a graph of one product, 2048 by 2048 by 2048, in the runtime itself; NumPy's
product stands beside it as a check in fp32. int8 is uint8 by int8, as `ernie-build quantize` writes it, with the
conversions of the first factor and of the result.

A model's operations are those that the exported graph of a classifier needs; two for a multiplication and its addition.
With H hidden, F feed-forward width, S tokens of a text, L layers, A heads, for a text:
    a whole layer: 2 S (4 H² + 2 H F) for products with weights, 4 S² H for attention
    the last layer, of the first token alone: 2 (2 H² + 2 A H² + 2 H F) + 4 S A H (see `model_build.last_layer`)
Padding is counted as text is: what the runtime computes, not what was useful. Embeddings, norms and activations count
nothing, though they take time.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from model_build.bundle import Bundle, open_bundle

SIZE = 2048
SHAPES = ((8, 128), (64, 128))
Run = Callable[[dict[str, np.ndarray]], object]


def operations(architecture: dict[str, Any], rows: int, length: int) -> int:
    """Floating-point operations of a batch through an exported classifier; the formula is the module's."""
    hidden, heads = architecture["hidden_size"], architecture["num_attention_heads"]
    wide, layers = architecture["intermediate_size"], architecture["num_hidden_layers"]
    layer = 2 * length * (4 * hidden**2 + 2 * hidden * wide) + 4 * length**2 * hidden
    last = 2 * (2 * hidden**2 + 2 * heads * hidden**2 + 2 * hidden * wide) + 4 * length * heads * hidden
    return rows * ((layers - 1) * layer + last)


def product(precision: str) -> bytes:
    """An ONNX graph of y = x · w, [SIZE, SIZE] each, `w` constant; bf16 is a setting of the runtime."""
    weights = np.random.default_rng(0).normal(size=(SIZE, SIZE)).astype(np.float32)
    value = helper.make_tensor_value_info
    if precision == "int8":
        constants = {
            "w.int8": np.rint(weights * 16).astype(np.int8), "w.scale": np.full(SIZE, 1 / 16, np.float32),
            "w.zero": np.zeros(SIZE, np.int8), "x.scale": np.float32(1 / 32), "x.zero": np.uint8(128),
        }  # fmt: skip
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "x.scale", "x.zero"], ["x.int8"]),
            helper.make_node("DequantizeLinear", ["x.int8", "x.scale", "x.zero"], ["x.float"]),
            helper.make_node("DequantizeLinear", ["w.int8", "w.scale", "w.zero"], ["w.float"], axis=1),
            helper.make_node("MatMul", ["x.float", "w.float"], ["y"]),
        ]
    else:
        constants = {"w": weights}
        nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    graph = helper.make_graph(
        nodes, "product",
        [value("x", TensorProto.FLOAT, [1, SIZE, SIZE])], [value("y", TensorProto.FLOAT, [1, SIZE, SIZE])],
        [numpy_helper.from_array(np.asarray(each), name) for name, each in constants.items()],
    )  # fmt: skip
    content: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7
    ).SerializeToString()
    return content


def openvino_run(model: bytes, precision: str, threads: int) -> Run:
    """The graph in OpenVINO."""
    import openvino

    hint = "bf16" if precision == "bf16" else "f32"
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(model), "CPU",
        {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": hint},
    )  # fmt: skip
    request = compiled.create_infer_request()
    return lambda inputs: request.infer(inputs, share_inputs=True)


def onnxruntime_run(model: bytes, precision: str, threads: int) -> Run:
    """The graph in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, inputs)


RUNS: dict[str, tuple[Callable[[bytes, str, int], Run], tuple[str, ...]]] = {
    "openvino": (openvino_run, ("fp32", "bf16", "int8")),
    "onnxruntime": (onnxruntime_run, ("fp32", "int8")),
}


def best(call: Callable[[], object], seconds: float = 1.5) -> float:
    """Seconds of the fastest call: what the machine can do, where others run on it too."""
    call()
    fastest, begun = float("inf"), time.perf_counter()
    while time.perf_counter() - begun < seconds:
        before = time.perf_counter()
        call()
        fastest = min(fastest, time.perf_counter() - before)
    return fastest


def peaks(threads: int) -> Iterator[tuple[str, str, float]]:
    """Runtime, precision, and GFLOP/s of its product."""
    x = np.random.default_rng(1).normal(size=(1, SIZE, SIZE)).astype(np.float32)
    for name, (load, precisions) in RUNS.items():
        for precision in precisions:
            run = load(product(precision), precision, threads)
            yield name, precision, 2 * SIZE**3 / best(functools.partial(run, {"x": x})) / 1e9


def numpy_peak() -> float:
    """GFLOP/s of NumPy's product in fp32, with the threads that its library takes by itself."""
    x = np.random.default_rng(1).normal(size=(SIZE, SIZE)).astype(np.float32)
    return 2 * SIZE**3 / best(lambda: x @ x) / 1e9


def achieved(bundle: Bundle, threads: int) -> Iterator[tuple[str, str, int, int, float]]:
    """Runtime, precision, rows, length, and GFLOP/s of a classifier's whole graph."""
    quantised = "quantization" in bundle.manifest.provenance
    model = bundle.graph("onnx")[0].read_bytes()
    for name, (load, precisions) in RUNS.items():
        for precision in precisions:
            if quantised != (precision == "int8"):
                continue
            run = load(model, precision, threads)
            for rows, length in SHAPES:
                ids = np.random.default_rng(2).integers(5, 9000, (rows, length))
                inputs = {"input_ids": ids, "token_type_ids": np.zeros_like(ids)}
                seconds = best(functools.partial(run, inputs))
                rate = operations(bundle.manifest.architecture, rows, length) / seconds
                yield name, precision, rows, length, rate / 1e9


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.matrix_peak", description=__doc__.splitlines()[0])
    parser.add_argument("bundles", type=Path, nargs="*", help="classifiers; of fp32 ones bf16 is measured too")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="of a product (default: 1)")
    arguments = parser.parse_args()
    print(f"product of {SIZE} cubed in GFLOP/s\n\n| threads | runtime | precision | GFLOP/s |\n|---|---|---|---|")
    reached = {}
    for threads in arguments.threads:
        for runtime, precision, rate in peaks(threads):
            reached[runtime, precision, threads] = rate
            print(f"| {threads} | {runtime} | {precision} | {rate:.0f} |", flush=True)
    print(f"| all cores | numpy | fp32 | {numpy_peak():.0f} |\n")
    if arguments.bundles:
        print(
            "| model | threads | runtime | precision | batch | GFLOP/s | share of the product's |\n" + "|---" * 7 + "|"
        )
    for path in arguments.bundles:
        bundle = open_bundle(path)
        for threads in arguments.threads:
            for runtime, precision, rows, length, rate in achieved(bundle, threads):
                share = rate / reached[runtime, precision, threads]
                print(
                    f"| {bundle.manifest.name} | {threads} | {runtime} | {precision} | {rows}×{length} | {rate:.0f} "
                    f"| {share:.0%} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
