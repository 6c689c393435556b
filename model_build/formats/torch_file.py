"""Reads the weights in a PyTorch file (`pytorch_model.bin`) without PyTorch, and without running code from the file.

Both formats of `torch.save` are read: a ZIP archive with a pickle `data.pkl` and one file `data/KEY` for each storage
(PyTorch 1.6 and later), and a sequence of pickles followed by the storages (before 1.6). A storage is a flat array; a
tensor is a view of it. The format is defined by `torch/serialization.py`.

A pickle can call any function that it names. Here it may name only the functions that rebuild tensors.
"""

from __future__ import annotations

import collections
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from model_build.formats.errors import WeightsError

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
"""The first pickle of a file in the format before PyTorch 1.6."""
STORAGES = {
    "FloatStorage": "F32", "DoubleStorage": "F64", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}  # fmt: skip
"""The dtype of each storage class, as `DTYPES` names it."""
DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip
"""NumPy's name of each dtype of a weights file; BF16 is read as its bits."""
DAMAGED = (pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError, TypeError, ValueError, struct.error,
           zipfile.BadZipFile, OverflowError, MemoryError)  # fmt: skip


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: str
    length: int


@dataclass(frozen=True)
class _View:
    """A tensor before its storage is read: shape and strides are in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_torch_file(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a PyTorch file by name; bf16 becomes float32.

    Raises WeightsError if the file is damaged, holds anything but a dictionary of tensors, or names a function or class
    that does not belong to one; the message gives its name.
    """
    try:
        with path.open("rb") as file:
            if zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as archive:
                    return _read_archive(path, archive)
            file.seek(0)
            return _read_pickles(path, file)
    except WeightsError:
        raise
    except DAMAGED as error:
        raise WeightsError(
            f"{path} is not a PyTorch file of weights ({error or type(error).__name__}); copy it again."
        ) from error


def _read_archive(path: Path, archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    pickled = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(pickled) != 1:
        raise WeightsError(f"{path} is a ZIP file without the data.pkl of PyTorch; give a file that torch.save wrote.")
    folder = pickled[0].removesuffix("data.pkl")
    order = f"{folder}byteorder"
    if order in archive.namelist() and archive.read(order) != b"little":
        raise WeightsError(f"{path} was written on a big-endian machine; save it again on another machine.")

    def content(storage: _Storage) -> bytes:
        info = archive.getinfo(f"{folder}data/{storage.key}")
        if info.compress_type != zipfile.ZIP_STORED:
            raise WeightsError(f"{path} is a compressed ZIP file; give the file as torch.save wrote it.")
        return archive.read(info)

    with archive.open(pickled[0]) as file:
        views = _views(path, _Unpickler(file, path).load())
    return _arrays(path, views, content)


def _read_pickles(path: Path, file: IO[bytes]) -> dict[str, np.ndarray]:
    """The format before PyTorch 1.6: magic number, version, machine, object, keys of storages; then the storages."""
    if _Unpickler(file, path).load() != MAGIC_NUMBER:
        raise WeightsError(f"{path} is not a PyTorch file of weights; give a file that torch.save wrote.")
    _, machine = _Unpickler(file, path).load(), _Unpickler(file, path).load()
    if not machine.get("little_endian", True):
        raise WeightsError(f"{path} was written on a big-endian machine; save it again on another machine.")
    views = _views(path, _Unpickler(file, path).load())
    sizes = {each.storage.key: np.dtype(DTYPES[each.storage.dtype]).itemsize for each in views.values()}
    contents = {}
    for key in _Unpickler(file, path).load():
        (length,) = struct.unpack("<q", file.read(8))
        contents[key] = file.read(length * sizes.get(key, 1))
    return _arrays(path, views, lambda storage: contents[storage.key])


class _Unpickler(pickle.Unpickler):
    """Knows the functions that rebuild tensors, the classes of storages, and OrderedDict; nothing else."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        super().__init__(file, encoding="utf-8")
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch._utils" and name == "_rebuild_tensor_v2":
            return lambda storage, offset, shape, strides, *_: _View(storage, offset, tuple(shape), tuple(strides))
        if module == "torch._utils" and name == "_rebuild_parameter":
            return lambda view, *_: view
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        raise WeightsError(
            f"{self._path} contains {module}.{name}, which is not part of a file of weights and might run code; save "
            "the weights alone, with torch.save(model.state_dict(), PATH)."
        )

    def persistent_load(self, identifier: Any) -> _Storage:
        kind, dtype, key, _, length, *view = identifier
        if kind != "storage" or dtype not in DTYPES or not isinstance(length, int) or any(view):
            raise WeightsError(f"{self._path} refers to a {kind!r} that is not a storage of numbers; copy it again.")
        return _Storage(str(key), dtype, length)


def _views(path: Path, found: Any) -> dict[str, _View]:
    """The tensors of a dictionary; raises WeightsError if it is not one, or has another value."""
    if not isinstance(found, Mapping):
        raise WeightsError(f"{path} holds a {type(found).__name__}, not weights by name; save model.state_dict().")
    for name, value in found.items():
        if not isinstance(value, _View):
            raise WeightsError(
                f"{path} holds {name!r}, which is not a tensor; save the weights alone, with "
                "torch.save(model.state_dict(), PATH)."
            )
    return dict(found)


def _arrays(path: Path, views: Mapping[str, _View], content: Callable[[_Storage], bytes]) -> dict[str, np.ndarray]:
    flat: dict[str, np.ndarray] = {}
    arrays = {}
    for name, view in views.items():
        storage = view.storage
        if storage.key not in flat:
            flat[storage.key] = np.frombuffer(content(storage), dtype=DTYPES[storage.dtype])
        values = flat[storage.key]
        numbers = (view.offset, *view.shape, *view.strides)
        whole = all(isinstance(number, int) and number >= 0 for number in numbers)
        if not whole or len(view.shape) != len(view.strides):
            raise WeightsError(f"{path}: the shape of {name} is invalid; copy the file again.")
        last = view.offset + sum((size - 1) * stride for size, stride in zip(view.shape, view.strides, strict=True))
        if len(values) < storage.length or (0 not in view.shape and last >= len(values)):
            raise WeightsError(f"{path}: the values of {name} are incomplete; copy the file again.")
        strides = [stride * values.itemsize for stride in view.strides]
        array = np.lib.stride_tricks.as_strided(values[view.offset :], view.shape, strides)
        arrays[name] = from_bits(array) if storage.dtype == "BF16" else array.copy()
    return arrays


def from_bits(bits: np.ndarray) -> np.ndarray:
    """The float32 values of bf16 numbers, given as uint16."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
