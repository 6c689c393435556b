"""Functions that run an exported graph with Paddle Inference, ONNX Runtime or OpenVINO, to check and evaluate it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

Arrays = dict[str, np.ndarray]
"""Inputs of a graph by name."""
Runner = Callable[[Arrays], list[np.ndarray]]
"""Takes the inputs of a graph and returns its outputs in the order of the manifest."""


def paddle_runner(model: Path, params: Path) -> Runner:
    """A runner of a saved Paddle graph in Paddle Inference, on the CPU."""
    from paddle import inference

    config = inference.Config(str(model), str(params))
    config.disable_glog_info()
    config.disable_gpu()
    predictor = inference.create_predictor(config)

    def run(inputs: Arrays) -> list[np.ndarray]:
        for name in predictor.get_input_names():
            predictor.get_input_handle(name).copy_from_cpu(inputs[name])
        predictor.run()
        return [predictor.get_output_handle(name).copy_to_cpu() for name in predictor.get_output_names()]

    return run


def onnx_runner(model: Path | bytes, output_names: Sequence[str]) -> Runner:
    """A runner of an ONNX graph, given as a file or as bytes, in ONNX Runtime on the CPU."""
    import onnxruntime

    content = model if isinstance(model, bytes) else str(model)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(list(output_names), inputs)


def has_bf16() -> bool:
    """Whether OpenVINO is installed and can compute in bf16 on this processor."""
    if not importlib.util.find_spec("openvino"):
        return False
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def bf16_runner(model: Path, output_names: Sequence[str]) -> Runner:
    """A runner of an ONNX graph in OpenVINO on the CPU, with matrix products in bf16.

    Use it only if `has_bf16` returns true.
    """
    import openvino

    compiled = openvino.Core().compile_model(str(model), "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    request = compiled.create_infer_request()

    def run(inputs: Arrays) -> list[np.ndarray]:
        found = request.infer(inputs)
        return [np.array(found[name]) for name in output_names]

    return run
