"""The interface between the engine and the inference libraries: one protocol, one options type, one error."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec
import numpy as np

from model_build.bundle import Bundle
from model_build.bundle_check import input_names
from service.runtime.cores import cores

Backend = Literal["auto", "paddle", "ort", "trt", "paddle_trt"]
Device = Literal["cpu", "gpu"]
RuntimeName = Literal["auto", "fastdeploy", "onnxruntime", "openvino"]
Precision = Literal["fp32", "bf16", "fp16"]


class RuntimeUnavailable(Exception):
    """The bundle cannot be run with these options on this machine; the message is one sentence."""


class RuntimeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a bundle is run.

    `backend` is an option of FastDeploy. If the bundle has an ONNX graph, `auto` means ONNX Runtime on the CPU and
    TensorRT on the GPU; otherwise it means Paddle Inference. `precision` is the precision of the arithmetic; weights,
    inputs and outputs do not change. On the CPU, `streams` forward passes run concurrently, with `cpu_threads` threads
    each; for 0, `streams_and_threads` chooses the number. `max_batch` and `max_length` limit the shapes of TensorRT's
    engines, and `cache_directory` keeps these engines.
    """

    runtime: RuntimeName = "auto"
    backend: Backend = "auto"
    device: Device = "cpu"
    device_id: int = 0
    streams: int = 0
    cpu_threads: int = 0
    precision: Precision = "fp32"
    max_batch: int = 64
    max_length: int = 512
    cache_directory: str | None = None


class Runtime(Protocol):
    """A loaded graph. Each stream has one caller at a time."""

    backend: str
    """The backend that is used, never `auto`."""

    streams: int
    """Number of forward passes that may run concurrently, each called from a separate thread."""

    compiles_shapes: bool
    """Whether the runtime compiles kernels for every shape of the inputs, so that there should be few shapes."""

    def run(self, inputs: dict[str, np.ndarray], stream: int = 0) -> dict[str, np.ndarray]:
        """Runs C-contiguous int64 arrays. The manifest has the names of inputs and outputs.

        `stream` starts at 0. Raises ValueError for arrays that do not match the graph, and RuntimeError if the forward
        pass fails.
        """

    def close(self) -> None:
        """Frees the graph."""


MAX_STREAMS = 8


def streams_and_threads(options: RuntimeOptions) -> tuple[int, int]:
    """The number of concurrent forward passes on the CPU, and the threads of each.

    The default is one pass with one thread for every core; with more than MAX_STREAMS cores, a pass has more threads.
    Threads of one pass wait for each other after every matrix product, so all of them stop when one loses its core, for
    example to the API process. Separate passes do not wait for each other.
    """
    if options.device == "gpu":
        return 1, max(1, options.cpu_threads)
    if options.streams:
        return options.streams, options.cpu_threads or max(1, cores() // options.streams)
    streams = max(1, min(MAX_STREAMS, cores() // max(1, options.cpu_threads)))
    return streams, options.cpu_threads or cores() // streams


def threads_of_one(options: RuntimeOptions) -> int:
    """Threads of a forward pass on the CPU if only one pass runs at a time.

    By default one core remains for the API process. On two cores and at 64 connections (nano size), FastDeploy's
    throughput with two threads was 1.5 times that with one. At overload, however, it fell to 70 % of that peak, and
    with a small model below the throughput with one thread (docs/overload.md).
    """
    return options.cpu_threads or max(1, cores() - 1)


def check_inputs(bundle: Bundle, inputs: dict[str, np.ndarray]) -> None:
    """Raises ValueError for arrays that do not match the manifest; libraries crash on some of them."""
    ranks = {spec.name: len(spec.shape) for spec in bundle.manifest.inputs}
    if inputs.keys() != ranks.keys():
        raise ValueError(f"the graph takes {sorted(ranks)}, not {sorted(inputs)}.")
    for name, array in inputs.items():
        if array.dtype != np.int64 or array.ndim != ranks[name] or not array.size:
            raise ValueError(f"{name} must be int64 of rank {ranks[name]} and not empty.")


def graph_names(bundle: Bundle, named: list[str], outputs: int) -> dict[str, str]:
    """The name in the graph for each input of the manifest.

    Converters reorder inputs, and libraries list them in different orders, so only names count. Raises
    RuntimeUnavailable if an input is missing, has an unknown name, or the number of outputs differs.
    """
    wanted = [spec.name for spec in bundle.manifest.inputs]
    names = input_names(named, wanted)
    if names is None or outputs != len(bundle.manifest.outputs):
        raise RuntimeUnavailable(
            f"{bundle.directory}: the graph has inputs {named} and {outputs} outputs, but {wanted} and "
            f"{len(bundle.manifest.outputs)} are needed."
        )
    return names
