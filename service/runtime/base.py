"""The seam between the engine and inference libraries: one protocol, one options type, one error."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec
import numpy as np

Backend = Literal["auto", "paddle", "ort", "trt", "paddle_trt"]
Device = Literal["cpu", "gpu"]


class RuntimeUnavailable(Exception):
    """The bundle cannot be run as asked on this machine; the message is one sentence."""


class RuntimeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a bundle is run.

    `auto` is ONNX Runtime on the CPU and TensorRT on the GPU where the bundle has an ONNX graph, Paddle Inference
    where it has none. `cpu_threads` 0 means every core but one. `max_batch` and `max_length` bound the shapes that
    TensorRT builds for; `cache_directory` keeps its engines.
    """

    backend: Backend = "auto"
    device: Device = "cpu"
    device_id: int = 0
    cpu_threads: int = 0
    fp16: bool = False
    max_batch: int = 64
    max_length: int = 512
    cache_directory: str | None = None


class Runtime(Protocol):
    """A loaded graph. One caller at a time."""

    backend: str
    """The backend in use, never `auto`."""

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs C-contiguous int64 arrays, named as the manifest names the inputs; outputs named likewise."""

    def close(self) -> None:
        """Frees the graph."""
