"""Python interface of the C++ extension: tokenizer, sample map, order of samples, blending and batch maker."""

from native._core import (
    MAX_BLENDING_PERIOD,
    BatchMaker,
    Blending,
    Encoding,
    ErnieTokenizer,
    PaddedBatch,
    build_sample_map,
    permute,
    philox4x32,
    unicode_version,
    version,
)

__all__ = [
    "MAX_BLENDING_PERIOD",
    "BatchMaker",
    "Blending",
    "Encoding",
    "ErnieTokenizer",
    "PaddedBatch",
    "build_sample_map",
    "permute",
    "philox4x32",
    "unicode_version",
    "version",
]
