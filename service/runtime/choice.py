"""Which runtime loads a bundle. Only this module names the runtimes. A library is imported only if it is used."""

from __future__ import annotations

import importlib.util

from model_build.bundle import Bundle
from service.runtime.base import Runtime, RuntimeName, RuntimeOptions, RuntimeUnavailable

RUNTIMES: tuple[RuntimeName, ...] = ("fastdeploy", "openvino", "onnxruntime")


def asked(bundle: Bundle, options: RuntimeOptions) -> list[RuntimeName]:
    """The runtimes in the order in which `auto` tries them.

    On the CPU, OpenVINO was the fastest in all measurements (docs/speed.md), with the answers of FastDeploy. For Paddle
    graphs it supports fewer operators than FastDeploy.
    """
    first: RuntimeName = "openvino" if options.device == "cpu" and "onnx" in bundle.manifest.graphs else "fastdeploy"
    return sorted(RUNTIMES, key=lambda name: name != first)


def installed() -> list[RuntimeName]:
    """The runtimes whose libraries are installed."""
    return [name for name in RUNTIMES if importlib.util.find_spec(name)]


def refusal(name: RuntimeName, bundle: Bundle, options: RuntimeOptions) -> str | None:
    """Why `auto` skips a runtime, or None if the runtime supports the options."""
    if name not in installed():
        return f"{name} is not installed"
    if options.precision == "bf16" and name != "openvino":
        return f"{name} computes no bf16"
    if options.device == "gpu" and name == "openvino":
        return "openvino is for the CPU here"
    if options.backend != "auto" and name != "fastdeploy" and (name, options.backend) != ("onnxruntime", "trt"):
        return f"{name} has no backend {options.backend}"
    if name == "onnxruntime" and "onnx" not in bundle.manifest.graphs:
        return "onnxruntime needs an ONNX graph, which the bundle lacks"
    return None


def chosen(bundle: Bundle, options: RuntimeOptions) -> tuple[RuntimeName, list[str]]:
    """The runtime to use, and why `auto` skipped others. `auto` uses the first one that supports the options.

    Raises RuntimeUnavailable if there is none, or if the runtime that the options name is not installed.
    """
    if options.runtime != "auto":
        if options.runtime not in installed():
            raise RuntimeUnavailable(f"{options.runtime} is not installed; install it, or leave the runtime to auto.")
        return options.runtime, []
    refused: list[str] = []
    for name in asked(bundle, options):
        why = refusal(name, bundle, options)
        if why is None:
            return name, refused
        refused.append(why)
    raise RuntimeUnavailable(
        f"no runtime supports these options: {', '.join(refused)}; install a runtime, or change the options."
    )


def load_runtime(bundle: Bundle, options: RuntimeOptions) -> Runtime:
    """Loads a bundle; raises RuntimeUnavailable."""
    name, _ = chosen(bundle, options)
    if name == "openvino":
        from service.runtime.openvino import OpenVinoRuntime

        return OpenVinoRuntime(bundle, options)
    if name == "onnxruntime":
        from service.runtime.onnxruntime import OnnxRuntime

        return OnnxRuntime(bundle, options)
    from service.runtime.fastdeploy import FastDeployRuntime

    return FastDeployRuntime(bundle, options)
