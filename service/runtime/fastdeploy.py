"""FastDeploy 1.0.7: Paddle Inference, ONNX Runtime, TensorRT and Paddle-TensorRT.

FastDeploy aborts the process on most failures and holds the GIL during a forward pass. Therefore everything is checked
before each call, and only the engine process imports this module.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import fastdeploy as fd
import numpy as np

from model_build.bundle import Bundle, BundleError
from service.runtime.base import RuntimeOptions, RuntimeUnavailable, check_inputs, graph_names, threads_of_one

# oneDNN keeps compiled kernels for each input shape. Without a limit, varying lengths increase its memory forever.
MKLDNN_CACHED_SHAPES = 64
TENSORRT_BACKENDS = ("trt", "paddle_trt")


def chosen_backend(bundle: Bundle, options: RuntimeOptions) -> str:
    """The backend to use; `auto` prefers the ONNX graph, whose top-k is six times faster on the CPU than Paddle's."""
    if options.backend != "auto":
        return options.backend
    if "onnx" in bundle.manifest.graphs:
        return "trt" if options.device == "gpu" else "ort"
    return "paddle_trt" if options.device == "gpu" and options.precision == "fp16" else "paddle"


def check(bundle: Bundle, options: RuntimeOptions, backend: str) -> None:
    """Raises RuntimeUnavailable for options with which FastDeploy would abort or silently ignore some of them."""
    if options.device == "gpu" and not fd.is_built_with_gpu():
        raise RuntimeUnavailable(
            "the GPU was asked for, but this is the CPU build of FastDeploy; install fastdeploy-gpu-python 1.0.7 "
            "from its vendor's wheel page, or set the device to cpu."
        )
    if options.device == "cpu" and backend in TENSORRT_BACKENDS:
        raise RuntimeUnavailable(f"the backend {backend} runs on a GPU only; set the device to gpu.")
    if options.precision == "bf16" or (options.precision == "fp16" and options.device == "cpu"):
        raise RuntimeUnavailable(
            f"FastDeploy has no {options.precision} on the {options.device.upper()}; it has fp32, and fp16 on the GPU."
        )
    if backend in TENSORRT_BACKENDS and bundle.manifest.task == "fill-mask" and backend == "paddle_trt":
        raise RuntimeUnavailable("a fill-mask graph does not run on paddle_trt; use trt or paddle.")
    built = {"ort": fd.is_built_with_ort, "paddle": fd.is_built_with_paddle}.get(backend)
    if built is not None and not built():
        raise RuntimeUnavailable(f"this build of FastDeploy has no {backend} backend; use another.")


def runtime_option(bundle: Bundle, options: RuntimeOptions, backend: str) -> Any:
    """The options as `fastdeploy.RuntimeOption`. The CPU build aborts on the backend `trt`, so call `check` before."""
    option = fd.RuntimeOption()
    graph_format = "onnx" if backend in ("ort", "trt") and "onnx" in bundle.manifest.graphs else "paddle"
    model, params = bundle.graph(graph_format)
    formats = {"onnx": fd.ModelFormat.ONNX, "paddle": fd.ModelFormat.PADDLE}
    option.set_model_path(str(model), str(params or ""), formats[graph_format])
    if options.device == "gpu":
        option.use_gpu(options.device_id)
    else:
        option.use_cpu()
        option.set_cpu_thread_num(threads_of_one(options))
    if backend == "ort":
        option.use_ort_backend()
        option.ort_option.enable_fp16 = options.precision == "fp16"
    elif backend == "trt":
        option.use_trt_backend()
    else:
        option.use_paddle_infer_backend()
        option.paddle_infer_option.mkldnn_cache_size = MKLDNN_CACHED_SHAPES
        # This pass makes the last product of the masked LM wrong: random scores, and no error.
        option.paddle_infer_option.delete_pass("matmul_elementwise_add_mkldnn_fuse_pass")
        option.paddle_infer_option.enable_trt = backend == "paddle_trt"
        # Paddle-TensorRT runs the graph once to find the ranges of inner tensors.
        option.paddle_infer_option.collect_trt_shape = backend == "paddle_trt"
    if backend in TENSORRT_BACKENDS:
        set_tensorrt(option, bundle, options)
    return option


def set_tensorrt(option: Any, bundle: Bundle, options: RuntimeOptions) -> None:
    """Precision, shapes and cache file of TensorRT, for both backends that use it."""
    trt = option.trt_option
    trt.enable_fp16 = options.precision == "fp16"
    trt.max_batch_size = options.max_batch
    for name, (low, usual, high) in shape_ranges(bundle, options).items():
        trt.set_shape(name, low, usual, high)
    if options.cache_directory:
        # FastDeploy loads an existing file without a check, so the name contains a hash of all inputs.
        made_of = repr((bundle.manifest.graphs, options, fd.__version__))
        digest = hashlib.sha256(made_of.encode()).hexdigest()[:16]
        trt.serialize_file = str(Path(options.cache_directory) / f"{bundle.manifest.name}-{digest}.trt")


def shape_ranges(bundle: Bundle, options: RuntimeOptions) -> dict[str, tuple[list[int], list[int], list[int]]]:
    """Smallest, usual and largest shape of every input, from the largest batch and length."""
    rows, length = options.max_batch, min(options.max_length, bundle.manifest.max_length)
    ranges = {}
    for spec in bundle.manifest.inputs:
        if spec.name == "mask_positions":
            ranges[spec.name] = ([1], [rows], [rows * 4])
        elif spec.name == "target_ids":
            ranges[spec.name] = ([1, 1], [rows, 1], [rows * 4, 16])
        else:
            ranges[spec.name] = ([1, 1], [rows, min(128, length)], [rows, length])
    return ranges


class FastDeployRuntime:
    """A bundle's graph in FastDeploy."""

    streams = 1  # it holds the GIL, so a second pass could not start
    compiles_shapes = False

    def __init__(self, bundle: Bundle, options: RuntimeOptions) -> None:
        """Raises RuntimeUnavailable in one sentence."""
        self.backend = chosen_backend(bundle, options)
        check(bundle, options, self.backend)
        fd.set_logger(False, False)
        try:
            option = runtime_option(bundle, options, self.backend)
        except BundleError as error:
            raise RuntimeUnavailable(str(error)) from error
        self._runtime = fd.Runtime(option)
        self._outputs = [spec.name for spec in bundle.manifest.outputs]
        named = [self._runtime.get_input_info(index).name for index in range(self._runtime.num_inputs())]
        self._graph_name = graph_names(bundle, named, self._runtime.num_outputs())
        self._bundle = bundle

    def run(self, inputs: dict[str, np.ndarray], stream: int = 0) -> dict[str, np.ndarray]:
        """One forward pass. Raises ValueError for inputs that would crash FastDeploy; `stream` is 0."""
        check_inputs(self._bundle, inputs)
        fed = {self._graph_name[name]: np.ascontiguousarray(array) for name, array in inputs.items()}
        return dict(zip(self._outputs, self._runtime.infer(fed), strict=True))

    def close(self) -> None:
        """Frees the graph."""
        del self._runtime
