"""Operators of Paddle graphs that no runtime computes correctly."""

from __future__ import annotations

import re

from model_build.bundle import Bundle
from service.runtime.base import RuntimeUnavailable

# FastDeploy 1.0.7 with Paddle Inference returns wrong scores for graphs with these operators, without an error: those
# of a 2-layer classifier were 0.005, 0.010, 0.001 instead of 0.554, 0.611, -0.301. OpenVINO refuses such graphs.
# 0x1A is the tag of the field `type` of OpDesc in Paddle's framework.proto; the length of the name follows.
_QUANTISED = re.compile(rb"\x1a(.)(\w*quantize\w*)", re.DOTALL)


def check_operators(bundle: Bundle) -> None:
    """Raises RuntimeUnavailable if the Paddle graph has an operator that no runtime computes correctly."""
    if "paddle" not in bundle.manifest.graphs:
        return
    model, _ = bundle.graph("paddle")
    for found in _QUANTISED.finditer(model.read_bytes()):
        kind = found[2][: found[1][0]]
        if b"quantize" in kind and len(kind) == found[1][0]:
            raise RuntimeUnavailable(
                f"{model} has the operator {kind.decode()} of a compressed model, which no runtime computes correctly; "
                "export the model without compression, or quantise a bundle with ernie-build quantize."
            )
