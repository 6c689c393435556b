"""Which files a bundle may consist of: files within its own directory, with names and numbers within limits.

Links are allowed if they lead to a file within the directory, as Kubernetes' `..data` links do; the directory itself
may be a link too. ONNX graphs may have their weights in other files (external data, https://onnx.ai/onnx/repo-docs/
ExternalData.html); the same holds for these.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

MAX_MANIFEST_BYTES = 16 << 20
MAX_VOCABULARY_BYTES = 64 << 20
# Field numbers of onnx.proto below which a TensorProto can be, by message.
_MODEL, _GRAPH, _NODE, _ATTRIBUTE, _SPARSE, _TENSOR, _ENTRY, _FUNCTION = range(8)
_NESTED = {
    _MODEL: {7: _GRAPH, 25: _FUNCTION},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _FUNCTION: {7: _NODE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
    _TENSOR: {13: _ENTRY},
}
_DEEPEST = 64
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class FilesError(ValueError):
    """A file that a bundle may not have; the message is one sentence."""


def check_name(path: Path) -> None:
    """Raises FilesError if the path is not UTF-8; messages and logs could not name it."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise FilesError(f"{readable(path)}: this name is not UTF-8; rename the folder.") from None


def readable(path: Path) -> str:
    """The path with an escape for each byte that is not UTF-8."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def check_files(directory: Path, names: Iterable[str]) -> None:
    """Raises FilesError for the first of these paths, relative to `directory`, that leads outside it.

    Also checks the external data that `.onnx` files name. A file that is missing is no error here.
    """
    inside = directory.resolve()
    for name in names:
        path = directory / name
        _check_inside(path, name, inside, f"{directory}: the file {name!r}")
        if path.suffix == ".onnx" and path.is_file():
            for location in external_data(path):
                _check_inside(path.parent / location, location, inside, f"{path}: its external data {location!r}")


def _check_inside(path: Path, name: str, inside: Path, what: str) -> None:
    if "\0" in name or not path.resolve().is_relative_to(inside) or Path(name).is_absolute():
        raise FilesError(f"{what} is not in the bundle's folder; copy it there and name it relative to the folder.")


def check_size(path: Path, most: int) -> None:
    """Raises FilesError if a file has more than `most` bytes, OSError if it cannot be read."""
    if (size := path.stat().st_size) > most:
        raise FilesError(f"{path} has {size} bytes, and the limit is {most}; it is not what its name says.")


def check_values(path: Path, values: dict[str, Any]) -> None:
    """Raises FilesError if a value could not be written as JSON again (NaN, infinity, thousands of digits)."""
    for name, value in values.items():
        try:
            json.dumps(value, allow_nan=False)
        except (ValueError, RecursionError):
            raise FilesError(f"{path}: {name} has a number that JSON cannot hold, or is nested too deeply.") from None


def external_data(path: Path) -> set[str]:
    """The locations of external data in an ONNX file, wherever a tensor can be.

    Raises FilesError if the file is not a protobuf message, OSError if it cannot be read.
    """
    with path.open("rb") as file:
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return set(_locations(data, 0, len(data), _MODEL, 0))
        except (IndexError, ValueError, UnicodeDecodeError):  # an empty file cannot be mapped either
            raise FilesError(f"{path} is damaged: it is not an ONNX graph; copy the bundle again.") from None


def _locations(data: mmap.mmap, start: int, end: int, kind: int, depth: int) -> Iterator[str]:
    """The locations in the message `kind` at data[start:end]."""
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    nested = _NESTED[kind]
    for number, begin, stop in _fields(data, start, end):
        if (inner := nested.get(number)) is None or stop < 0:
            continue
        if inner != _ENTRY:
            yield from _locations(data, begin, stop, inner, depth + 1)
            continue
        entry = {field: data[at:to] for field, at, to in _fields(data, begin, stop) if to >= 0}
        if entry.get(1) == b"location":
            yield entry.get(2, b"").decode("utf-8")


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each field of the protobuf message data[at:end]; the end of a number is -1."""
    while at < end:
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == _BYTES:
            length, at = _varint(data, at)
            yield tag >> 3, at, at + length
            at += length
        elif wire == _VARINT:
            _, at = _varint(data, at)
            yield tag >> 3, at, -1
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
            yield tag >> 3, at, -1
        else:
            raise ValueError(f"unknown wire type {wire}")
    if at != end:
        raise ValueError("a field is longer than its message")


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number has more than 64 bits")
