"""OpenVINO on the CPU, with bf16 if the processor supports it."""

from __future__ import annotations

import numpy as np
import openvino

from model_build.bundle import Bundle
from service.runtime.base import RuntimeOptions, RuntimeUnavailable, check_inputs, graph_names, streams_and_threads

# Number of compiled kernels that are kept. It is enough for all operators in all shapes that the engine uses. Without a
# limit, varying lengths would increase their number forever.
CACHED_KERNELS = 50_000
# A graph with several streams hands each pass to a separate thread. At nano size this costs a tenth of a short pass. So
# a graph up to this size is compiled once for each stream, and the calling thread runs it. A copy of a base-size graph
# would take 340 MB, and its passes are long.
SMALL_GRAPH_BYTES = 100_000_000
PRECISION = {"fp32": "f32", "bf16": "bf16"}


class OpenVinoRuntime:
    """A bundle's ONNX graph, or its Paddle graph if it has no ONNX graph."""

    compiles_shapes = True

    def __init__(self, bundle: Bundle, options: RuntimeOptions) -> None:
        """Raises RuntimeUnavailable in one sentence."""
        # Its binding looks for NumPy on first use, and hangs if two threads are the first at the same time.
        openvino.Tensor(np.zeros(1)).data  # noqa: B018
        core = openvino.Core()
        if options.device != "cpu":
            raise RuntimeUnavailable("OpenVINO is for the CPU here; use fastdeploy or onnxruntime on a GPU.")
        if options.precision not in PRECISION:
            raise RuntimeUnavailable("OpenVINO has fp32 and bf16 on the CPU; choose one of them.")
        if options.precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise RuntimeUnavailable("this processor computes no bf16; use fp32.")
        model, weights = bundle.graph("onnx" if "onnx" in bundle.manifest.graphs else "paddle")
        try:
            graph = core.read_model(str(model))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1].rstrip(".")
            raise RuntimeUnavailable(f"OpenVINO cannot read {model}: {reason}.") from error
        self.streams, threads = streams_and_threads(options)
        small = sum(file.stat().st_size for file in (model, weights) if file) <= SMALL_GRAPH_BYTES
        together = 1 if small else self.streams
        configuration = {
            "NUM_STREAMS": together,
            "INFERENCE_NUM_THREADS": together * threads,
            "ENABLE_CPU_PINNING": not small,  # otherwise all copies would run on the first core
            "INFERENCE_PRECISION_HINT": PRECISION[options.precision],
            "CPU_RUNTIME_CACHE_CAPACITY": CACHED_KERNELS,
        }
        copies = [core.compile_model(graph, "CPU", configuration) for _ in range(self.streams // together)]
        compiled = copies[0]
        self.backend = f"openvino {options.precision}"
        self._requests = [each.create_infer_request() for each in copies for _ in range(together)]
        named = [each.get_any_name() for each in compiled.inputs]
        places = {name: place for place, name in enumerate(named)}
        self._places = {name: places[own] for name, own in graph_names(bundle, named, len(compiled.outputs)).items()}
        # The inputs of each request are kept, because it reads the arrays without a copy.
        self._held: list[list[openvino.Tensor]] = [[] for _ in self._requests]
        self._types = [each.element_type.to_dtype() for each in compiled.inputs]
        self._outputs = [spec.name for spec in bundle.manifest.outputs]
        self._bundle = bundle

    def run(self, inputs: dict[str, np.ndarray], stream: int = 0) -> dict[str, np.ndarray]:
        """One forward pass. Raises ValueError for inputs that do not match the graph."""
        check_inputs(self._bundle, inputs)
        request = self._requests[stream]
        self._held[stream] = [
            openvino.Tensor(inputs[name].astype(self._types[place], copy=False), shared_memory=True)
            for name, place in self._places.items()
        ]
        # Not `infer(inputs)`: its conversions of inputs cost more than the other host work for a short text.
        for place, tensor in zip(self._places.values(), self._held[stream], strict=True):
            request.set_input_tensor(place, tensor)
        request.infer(share_outputs=True)
        # The request owns its outputs and overwrites them in the next pass.
        return {name: np.array(request.get_output_tensor(place).data) for place, name in enumerate(self._outputs)}

    def close(self) -> None:
        """Frees the graph."""
        self._requests.clear()
