"""The seam between the engine and inference libraries: one protocol, one options type, one error."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec
import numpy as np

from model_build.bundle import Bundle
from service.runtime.cores import cores

Backend = Literal["auto", "paddle", "ort", "trt", "paddle_trt"]
Device = Literal["cpu", "gpu"]
RuntimeName = Literal["auto", "fastdeploy", "onnxruntime", "openvino"]
Precision = Literal["fp32", "bf16", "fp16"]


class RuntimeUnavailable(Exception):
    """The bundle cannot be run as asked on this machine; the message is one sentence."""


class RuntimeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a bundle is run.

    `backend` is FastDeploy's: `auto` is ONNX Runtime on the CPU and TensorRT on the GPU where the bundle has an ONNX
    graph, Paddle Inference where it has none. `precision` is that of the arithmetic; weights stay as they are in the
    bundle, and inputs and outputs too. `streams` forward passes run beside each other on the CPU, of `cpu_threads`
    threads each; 0 leaves them to `streams_and_threads`. `max_batch` and `max_length` bound the shapes that TensorRT
    builds for; `cache_directory` keeps its engines.
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
    """A loaded graph. One caller at a time for each stream."""

    backend: str
    """The backend in use, never `auto`."""

    streams: int
    """How many forward passes may run beside each other, each from a thread of its own."""

    compiles_shapes: bool
    """Whether kernels are made for every shape of the inputs, so that few shapes are wanted."""

    def run(self, inputs: dict[str, np.ndarray], stream: int = 0) -> dict[str, np.ndarray]:
        """Runs C-contiguous int64 arrays, named as the manifest names the inputs; outputs named likewise.

        `stream` counts from 0. Raises ValueError for arrays that are not the graph's, and RuntimeError for a forward
        pass that fails.
        """

    def close(self) -> None:
        """Frees the graph."""


MAX_STREAMS = 8


def streams_and_threads(options: RuntimeOptions) -> tuple[int, int]:
    """Forward passes beside each other on the CPU, and the threads of each, where nothing else is asked for.

    A pass of one thread for every core, and of more threads where there are more than MAX_STREAMS cores. Threads of one
    pass wait for each other after every product, so all of them stand still when one is put off its core, as the API
    process does; passes do not wait for each other.
    """
    if options.device == "gpu":
        return 1, max(1, options.cpu_threads)
    if options.streams:
        return options.streams, options.cpu_threads or max(1, cores() // options.streams)
    streams = max(1, min(MAX_STREAMS, cores() // max(1, options.cpu_threads)))
    return streams, options.cpu_threads or cores() // streams


def threads_of_one(options: RuntimeOptions) -> int:
    """Threads of a forward pass on the CPU where there is one at a time.

    One core is left to the API process where nothing else is asked for. On two cores FastDeploy did half as much again
    with both at 64 connections (nano size), but at overload fell to 70 % of that peak, and with a small model below
    what it does with one (docs/overload.md).
    """
    return options.cpu_threads or max(1, cores() - 1)


def check_inputs(bundle: Bundle, inputs: dict[str, np.ndarray]) -> None:
    """Raises ValueError for arrays that are not those of the manifest; libraries crash on some of them."""
    ranks = {spec.name: len(spec.shape) for spec in bundle.manifest.inputs}
    if inputs.keys() != ranks.keys():
        raise ValueError(f"the graph takes {sorted(ranks)}, not {sorted(inputs)}.")
    for name, array in inputs.items():
        if array.dtype != np.int64 or array.ndim != ranks[name] or not array.size:
            raise ValueError(f"{name} must be int64 of rank {ranks[name]} and not empty.")


def graph_names(bundle: Bundle, named: list[str], outputs: int) -> dict[str, str]:
    """The graph's own name of each input of the manifest; raises RuntimeUnavailable where their numbers differ.

    Converters reorder inputs; a graph exported by others may name them otherwise, and then the order counts.
    """
    wanted = [spec.name for spec in bundle.manifest.inputs]
    if len(named) != len(wanted) or outputs != len(bundle.manifest.outputs):
        raise RuntimeUnavailable(
            f"{bundle.directory}: the graph has inputs {named} and {outputs} outputs, but {wanted} and "
            f"{len(bundle.manifest.outputs)} are needed."
        )
    return dict(zip(wanted, wanted if sorted(named) == sorted(wanted) else named, strict=True))
