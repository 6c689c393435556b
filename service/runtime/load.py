"""Which runtime loads a bundle: the one place that names them. A library is imported only when it is to be used."""

from __future__ import annotations

import importlib.util

from model_build.bundle import Bundle
from service.runtime.base import Runtime, RuntimeName, RuntimeOptions, RuntimeUnavailable


def installed() -> list[RuntimeName]:
    """The runtimes whose libraries are here."""
    names: tuple[RuntimeName, ...] = ("fastdeploy", "onnxruntime", "openvino")
    return [name for name in names if importlib.util.find_spec(name)]


def chosen(options: RuntimeOptions) -> RuntimeName:
    """The runtime to use. `auto` is FastDeploy where it is installed and does what is asked for, else another one.

    Raises RuntimeUnavailable where there is none, or not the one that was named.
    """
    here = installed()
    if options.runtime != "auto":
        if options.runtime not in here:
            raise RuntimeUnavailable(f"{options.runtime} is not installed; install it, or leave the runtime to auto.")
        return options.runtime
    able = [name for name in here if options.precision != "bf16" or name == "openvino"]
    if not able:
        raise RuntimeUnavailable(
            f"no runtime that is installed computes in {options.precision}; install openvino, or use fp32."
            if here
            else "no runtime is installed; install fastdeploy-python, onnxruntime or openvino."
        )
    return able[0]


def load_runtime(bundle: Bundle, options: RuntimeOptions) -> Runtime:
    """Loads a bundle; raises RuntimeUnavailable."""
    name = chosen(options)
    if name == "openvino":
        from service.runtime.openvino import OpenVinoRuntime

        return OpenVinoRuntime(bundle, options)
    if name == "onnxruntime":
        from service.runtime.onnxruntime import OnnxRuntime

        return OnnxRuntime(bundle, options)
    from service.runtime.fastdeploy import FastDeployRuntime

    return FastDeployRuntime(bundle, options)
