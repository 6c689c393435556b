"""Which runtime loads a bundle: the one place that names them."""

from __future__ import annotations

from model_build.bundle import Bundle
from service.runtime.base import Runtime, RuntimeOptions
from service.runtime.fastdeploy import FastDeployRuntime


def load_runtime(bundle: Bundle, options: RuntimeOptions) -> Runtime:
    """Loads a bundle; raises RuntimeUnavailable."""
    return FastDeployRuntime(bundle, options)
