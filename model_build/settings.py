"""Settings of the commands of `ernie-build`.

This module imports no other package, so that the command line can be built quickly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

Precision = Literal["int8", "fp16", "bf16"]


@dataclass(frozen=True)
class QuantizeSettings:
    """How to quantise a graph. Raises ValueError if `keep_float` is negative."""

    precision: Annotated[
        Precision,
        "int8 computes the matrix products in 8 bits; fp16 and bf16 store the weights in 16 bits, so the file has half "
        "the size; the runtime chooses the precision of the computation",
    ] = "int8"
    activations: Annotated[
        Literal["uint8", "int8"],
        "type of the inputs of an int8 matrix product: uint8 is the fastest in ONNX Runtime on x86; for TensorRT "
        "choose int8, which has zero point 0",
    ] = "uint8"
    tables: Annotated[bool, "with int8, also store the embedding tables in int8, with one scale for every row"] = True
    keep_float: Annotated[
        int,
        "with int8, number of matrix products that stay in float32: the ones whose quantisation changes the output "
        "most",
    ] = 0

    def __post_init__(self) -> None:
        if self.keep_float < 0:
            raise ValueError(f"--keep-float must be 0 or more, not {self.keep_float}.")
