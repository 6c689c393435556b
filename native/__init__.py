"""Hot loops in C++, with a typed Python face."""

from native._core import (
    MAX_BLENDING_PERIOD,
    BatchMaker,
    Blending,
    build_sample_map,
    permute,
    philox4x32,
    version,
)

__all__ = [
    "MAX_BLENDING_PERIOD",
    "BatchMaker",
    "Blending",
    "build_sample_map",
    "permute",
    "philox4x32",
    "version",
]
