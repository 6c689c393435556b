"""ONNX Runtime without FastDeploy: on the CPU, with CUDA or with TensorRT, in the installed release."""

from __future__ import annotations

import numpy as np
import onnxruntime

from model_build.bundle import Bundle, BundleError
from service.runtime.base import RuntimeOptions, RuntimeUnavailable, check_inputs, graph_names, streams_and_threads


class OnnxRuntime:
    """A bundle's ONNX graph."""

    compiles_shapes = False

    def __init__(self, bundle: Bundle, options: RuntimeOptions) -> None:
        """Raises RuntimeUnavailable in one sentence."""
        providers = _providers(options)
        try:
            model, _ = bundle.graph("onnx")
        except BundleError as error:
            raise RuntimeUnavailable(
                f"{error} ONNX Runtime needs it; export the model again, or use FastDeploy."
            ) from None
        settings = onnxruntime.SessionOptions()
        self.streams, settings.intra_op_num_threads = streams_and_threads(options)
        settings.inter_op_num_threads = 1
        # Threads that spin while they wait would take the core that the API process needs.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(model), settings, providers=providers)
        if (first := self._session.get_providers()[0]) != providers[0][0]:
            # The library falls back to another provider; here that is an error.
            raise RuntimeUnavailable(f"ONNX Runtime could not use {providers[0][0]} and would run on {first}.")
        self.backend = f"onnxruntime {first.removesuffix('ExecutionProvider')}"
        self._graph_name = graph_names(
            bundle, [each.name for each in self._session.get_inputs()], len(self._session.get_outputs())
        )
        self._outputs = [spec.name for spec in bundle.manifest.outputs]
        self._bundle = bundle

    def run(self, inputs: dict[str, np.ndarray], stream: int = 0) -> dict[str, np.ndarray]:
        """One forward pass. Raises ValueError for inputs that do not match the graph, RuntimeError if it fails."""
        check_inputs(self._bundle, inputs)
        try:
            outputs = self._session.run(None, {self._graph_name[name]: array for name, array in inputs.items()})
        except Exception as error:  # the library's errors have no other base class
            raise RuntimeError(f"ONNX Runtime: {error}") from error
        return dict(zip(self._outputs, outputs, strict=True))

    def close(self) -> None:
        """Frees the graph."""
        del self._session


def _providers(options: RuntimeOptions) -> list[tuple[str, dict[str, object]]]:
    available = onnxruntime.get_available_providers()
    if options.device == "cpu":
        if options.precision != "fp32":
            raise RuntimeUnavailable(f"ONNX Runtime has no {options.precision} on the CPU; use openvino, or fp32.")
        return [("CPUExecutionProvider", {})]
    tensorrt: dict[str, object] = {
        "device_id": options.device_id,
        "trt_fp16_enable": options.precision == "fp16",
        "trt_engine_cache_enable": options.cache_directory is not None,
        "trt_engine_cache_path": options.cache_directory or "",
    }
    wanted: list[tuple[str, dict[str, object]]] = [("CUDAExecutionProvider", {"device_id": options.device_id})]
    if options.backend == "trt" or options.precision == "fp16":
        wanted.insert(0, ("TensorrtExecutionProvider", tensorrt))
    if wanted[0][0] not in available:
        raise RuntimeUnavailable(
            f"this ONNX Runtime has no {wanted[0][0]}, only {', '.join(available)}; install onnxruntime-gpu."
        )
    return wanted
