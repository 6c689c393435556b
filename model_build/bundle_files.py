"""Which files a bundle may consist of: files within its own directory, with names and numbers within limits.

Links are allowed if they lead to a file within the directory, as Kubernetes' `..data` links do; the directory itself
may be a link too. ONNX graphs may have their weights in other files (external data, https://onnx.ai/onnx/repo-docs/
ExternalData.html); the same holds for these.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from model_build.protobuf import Buffer, fields, mapped

MAX_MANIFEST_BYTES = 16 << 20
MAX_VOCABULARY_BYTES = 64 << 20
# The files of an export that are read whole.
DOCUMENTS = ("bundle.json", "config.json", "model_config.json", "labels.txt", "label_list.txt")
# Field numbers of onnx.proto below which a TensorProto can be, by message.
_MODEL, _GRAPH, _NODE, _ATTRIBUTE, _SPARSE, _TENSOR, _ENTRY, _FUNCTION = range(8)
_NESTED = {
    _MODEL: {7: _GRAPH, 25: _FUNCTION},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _FUNCTION: {7: _NODE, 11: _ATTRIBUTE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
    _TENSOR: {13: _ENTRY},
}
_DEEPEST = 64


class FilesError(ValueError):
    """A file that a bundle may not have; the message is one sentence."""


def check_name(path: Path) -> None:
    """Raises FilesError if the path, or the path to which it links, is not UTF-8; messages could not name it."""
    for each in (path, _real(path)):
        try:
            str(each).encode("utf-8")
        except UnicodeEncodeError:
            raise FilesError(f"{readable(each)}: this name is not UTF-8; rename the folder.") from None


def readable(path: Path) -> str:
    """The path with an escape for each byte that is not UTF-8."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def check_documents(directory: Path) -> None:
    """Raises FilesError if a document, as far as it exists, is outside the directory or too large."""
    for name in DOCUMENTS:
        path = directory / name
        _check_inside(path, name, _real(directory), f"{directory}: the file {name!r}")
        if path.is_file():
            check_size(path, MAX_MANIFEST_BYTES)


def check_files(directory: Path, names: Iterable[str]) -> None:
    """Raises FilesError for the first of these paths, relative to `directory`, that leads outside it.

    Also checks the external data that `.onnx` files name. A missing graph is not an error here.
    """
    inside = _real(directory)
    for name in names:
        path = directory / name
        _check_inside(path, name, inside, f"{directory}: the file {name!r}")
        if path.suffix == ".onnx" and path.is_file():
            for location in external_data(path):
                _check_external_data(path, location, inside)


def _check_inside(path: Path, name: str, inside: Path, what: str) -> None:
    if "\0" in name or not _real(path).is_relative_to(inside) or Path(name).is_absolute():
        raise FilesError(f"{what} is not in the bundle's folder; copy it there and name it relative to the folder.")
    if path.exists() and not path.is_file():
        raise FilesError(f"{what} is not a regular file; copy the bundle again.")


def _check_external_data(graph: Path, location: str, inside: Path) -> None:
    what = f"{graph}: its external data {location!r}"
    # If the graph is a link, some runtimes look next to the link, and others next to its target.
    paths = [folder / location for folder in (graph.parent, _real(graph).parent)]
    for path in paths:
        _check_inside(path, location, inside, what)
    # ONNX Runtime reads the location "*/_ORT_MEM_ADDR_/*" as an address in memory, not as a file.
    if not any(path.is_file() for path in paths):
        raise FilesError(f"{what} is missing; copy the bundle again.")


def _real(path: Path) -> Path:
    """The path without links. `Path.resolve` raises RuntimeError for a link to itself."""
    return Path(os.path.realpath(path))


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
    try:
        return set(_locations(mapped(path), _MODEL, itertools.count()))
    except (IndexError, ValueError):  # an empty file cannot be mapped either
        raise FilesError(f"{path} is damaged: it is not an ONNX graph; copy the bundle again.") from None


def _locations(data: Buffer, kind: int, counted: Iterator[int], depth: int = 0) -> Iterator[str]:
    """The locations in a message of this kind; `counted` counts the fields of the file."""
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    nested = _NESTED[kind]
    for number, value in fields(data, counted):
        if (inner := nested.get(number)) is None or isinstance(value, int):
            continue
        if inner != _ENTRY:
            yield from _locations(value, inner, counted, depth + 1)
            continue
        entry = {field: bytes(part) for field, part in fields(value, counted) if not isinstance(part, int)}
        if entry.get(1) == b"location":
            yield entry.get(2, b"").decode("utf-8")
