"""Reads which operator of a graph file computes an output, without the library that wrote the file.

ONNX and Paddle graphs are protocol buffers. Only the fields that are needed are read; weights are skipped.
Sources: https://onnx.ai/onnx/repo-docs/IR.html and `paddle/fluid/framework/framework.proto` of Paddle 2.6.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

# Operators that do not change the values of their first input.
_SAME_VALUES = {"Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape", "Flatten"} | {
    "assign", "cast", "squeeze2", "unsqueeze2", "reshape2", "flatten_contiguous_range", "share_data", "fetch",
}  # fmt: skip
_MOST_STEPS = 20


class Operator(NamedTuple):
    """An operator: its type, such as Softmax (ONNX) or softmax (Paddle), and the name of its first input."""

    kind: str
    source: str


def last_operator(path: Path) -> str | None:
    """The type of the operator that computes the first output of a `.onnx` or `.pdmodel` file.

    Operators that do not change values, such as Cast, are skipped. None if the file is missing or cannot be read
    as such a graph.
    """
    try:
        with path.open("rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        name, operators = _onnx(content) if path.suffix == ".onnx" else _paddle(content)
    except (OSError, IndexError, StopIteration, ValueError, struct.error):
        return None
    for _ in range(_MOST_STEPS):
        found = operators.get(name)
        if found is None or found.kind not in _SAME_VALUES:
            return found and found.kind
        name = found.source
    return None


def _onnx(content: memoryview) -> tuple[str, Mapping[str, Operator]]:
    """The name of the first output, and the operators by the name of their first output."""
    outputs, operators = [], {}
    graph = next(value for number, value in _fields(content) if number == 7)
    for number, value in _fields(graph):
        if number == 1:
            node = list(_fields(value))
            source, target = (next((_text(each) for key, each in node if key == number), "") for number in (1, 2))
            operators[target] = Operator(next(_text(each) for key, each in node if key == 4), source)
        elif number == 12:
            outputs.append(next(_text(each) for key, each in _fields(value) if key == 1))
    return outputs[0], operators


def _paddle(content: memoryview) -> tuple[str, Mapping[str, Operator]]:
    """The name of the first output, and the operators of the first block by the name of their first output."""
    output, operators = "", {}
    block = next(value for number, value in _fields(content) if number == 1)
    for number, value in _fields(block):
        if number != 4:
            continue
        parts = list(_fields(value))
        kind = next(_text(each) for key, each in parts if key == 3)
        sources, targets = (_arguments([each for key, each in parts if key == number]) for number in (1, 2))
        source = sources.get("X") or sources.get("Input") or ""
        if kind == "scale" and _is_identity([each for key, each in parts if key == 4]):
            kind = "assign"
        if kind == "fetch":
            output = output or source
        else:
            operators[targets.get("Out") or targets.get("Y") or ""] = Operator(kind, source)
    return output, operators


def _arguments(variables: list[memoryview]) -> dict[str, str]:
    """The first argument of each parameter of an operator."""
    found = {}
    for variable in variables:
        parts = list(_fields(variable))
        if arguments := [_text(each) for key, each in parts if key == 2]:
            found[next(_text(each) for key, each in parts if key == 1)] = arguments[0]
    return found


def _is_identity(attributes: list[memoryview]) -> bool:
    """Whether a `scale` operator multiplies by 1 and adds 0; `paddle.jit.save` ends every graph with one."""
    floats = {}
    for attribute in attributes:
        parts = dict(_fields(attribute))
        if 4 in parts:
            floats[_text(parts[1])] = struct.unpack("<f", parts[4])[0]
    return floats.get("scale", 1.0) == 1.0 and floats.get("bias", 0.0) == 0.0


def _text(value: memoryview) -> str:
    return str(value, "utf-8")


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of each field of a message that is not an integer.

    Raises IndexError or ValueError if the message is not a protocol buffer.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == 0:
            _, at = _varint(message, at)
            continue
        length, at = (8, at) if kind == 1 else (4, at) if kind == 5 else _varint(message, at)
        if kind not in (1, 2, 5) or at + length > len(message):
            raise ValueError("not a protocol buffer")
        yield key >> 3, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """The integer at a position, and the position after it."""
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
