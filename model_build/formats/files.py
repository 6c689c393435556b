"""Finds the file with the weights in a folder, and reads files that need neither Paddle nor PyTorch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from model_build.formats.errors import WeightsError
from model_build.formats.torch_file import DTYPES, from_bits, read_torch_file

WEIGHT_FILES = (
    "model_state.pdparams",
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""The names of files with weights, in the order of preference; an index lists the files of weights in parts."""


def weights_file(path: Path) -> Path:
    """The file with the weights of a folder, or `path` if it is a file. Raises WeightsError if there is none."""
    if path.is_file():
        return path
    for name in WEIGHT_FILES:
        if (path / name).is_file():
            return path / name
    missing = "has no weights" if path.is_dir() else "does not exist"
    raise WeightsError(f"{path} {missing}; give a folder with model_state.pdparams, model.safetensors or "
                       "pytorch_model.bin.")  # fmt: skip


def read_arrays(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a `.safetensors` file, a PyTorch file, or an index of several, by the names in the file.

    bf16 becomes float32. Raises WeightsError if a file is damaged or missing.
    """
    if file.suffix == ".json":
        return _read_parts(file)
    return read_safetensors(file) if file.suffix == ".safetensors" else read_torch_file(file)


def read_safetensors(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a `.safetensors` file by name; bf16 becomes float32, also where PaddleNLP stored it as uint16.

    Raises WeightsError if the file is damaged or has another type of numbers.
    """
    import safetensors

    arrays = {}
    try:
        tensors = safetensors.deserialize(file.read_bytes())
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{file} is not a safetensors file ({error}); copy it again.") from error
    for name, tensor in tensors:
        dtype = tensor["dtype"]
        if dtype not in DTYPES:
            raise WeightsError(f"{file}: {name} has the type {dtype}; save the weights in float32.")
        values = np.frombuffer(tensor["data"], dtype=DTYPES[dtype]).reshape(tensor["shape"])
        arrays[name] = from_bits(values) if dtype in ("BF16", "U16") else values
    return arrays


def _read_parts(index: Path) -> dict[str, np.ndarray]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise WeightsError(f"{index} is not an index of weights ({error}); copy it again.") from error
    arrays: dict[str, np.ndarray] = {}
    for name in names:
        file = index.parent / Path(str(name)).name
        if not file.is_file():
            raise WeightsError(f"{file} is missing, but {index.name} names it; copy the folder again.")
        arrays |= read_arrays(file)
    return arrays
