"""Settings of ernie-build's commands; nothing here needs a library, so a command line is made without any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

Precision = Literal["int8", "fp16", "bf16"]


@dataclass(frozen=True)
class QuantizeSettings:
    """What a quantised graph follows from, beside the graph and the calibration text."""

    precision: Annotated[
        Precision, "int8 computes in 8 bits; fp16 and bf16 halve the file, and how it is computed is the runtime's"
    ] = "int8"
    activations: Annotated[
        Literal["uint8", "int8"], "uint8 is fastest in ONNX Runtime on x86; TensorRT reads int8 alone, centred at 0"
    ] = "uint8"
    tables: Annotated[bool, "embedding tables in int8 too, with a scale for every row"] = True
    keep_float: Annotated[int, "so many matrix products, those that lose most in int8, stay as they are"] = 0

    def __post_init__(self) -> None:
        if self.keep_float < 0:
            raise ValueError(f"--keep-float must be 0 or more, not {self.keep_float}.")
