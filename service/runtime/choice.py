"""Which runtime loads a bundle: the one place that names them. A library is imported only when it is to be used."""

from __future__ import annotations

import importlib.util

from model_build.bundle import Bundle
from service.runtime.base import Runtime, RuntimeName, RuntimeOptions, RuntimeUnavailable

RUNTIMES: tuple[RuntimeName, ...] = ("fastdeploy", "openvino", "onnxruntime")


def asked(bundle: Bundle, options: RuntimeOptions) -> list[RuntimeName]:
    """The runtimes in the order in which `auto` asks them.

    On the CPU OpenVINO is the fastest wherever it was measured (docs/speed.md), with FastDeploy's answers; its reader
    of Paddle graphs knows fewer operators than FastDeploy.
    """
    first: RuntimeName = "openvino" if options.device == "cpu" and "onnx" in bundle.manifest.graphs else "fastdeploy"
    return sorted(RUNTIMES, key=lambda name: name != first)


def installed() -> list[RuntimeName]:
    """The runtimes whose libraries are here."""
    return [name for name in RUNTIMES if importlib.util.find_spec(name)]


def refusal(name: RuntimeName, bundle: Bundle, options: RuntimeOptions) -> str | None:
    """Why `auto` passes a runtime over, or None where it can do what is asked for."""
    if name not in installed():
        return f"{name} is not installed"
    if options.precision == "bf16" and name != "openvino":
        return f"{name} computes no bf16"
    if options.device == "gpu" and name == "openvino":
        return "openvino is for the CPU here"
    if options.backend != "auto" and name != "fastdeploy" and (name, options.backend) != ("onnxruntime", "trt"):
        return f"{name} has no backend {options.backend}"
    if name == "onnxruntime" and "onnx" not in bundle.manifest.graphs:
        return "onnxruntime needs an ONNX graph, which the bundle has not"
    return None


def chosen(bundle: Bundle, options: RuntimeOptions) -> tuple[RuntimeName, list[str]]:
    """The runtime to use, and why those before it are not. `auto` is the first of `asked` that does what is asked for.

    Raises RuntimeUnavailable where there is none, or not the one that was named.
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
        f"no runtime can do what is asked for: {', '.join(refused)}; install one, or ask for less."
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
