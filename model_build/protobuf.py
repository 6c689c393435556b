"""Reads the fields of a Protocol Buffers message (https://protobuf.dev/programming-guides/encoding/) without a schema.

ONNX graphs (`onnx.proto3`) and Paddle programs (`framework.proto`) are such messages.
"""

from __future__ import annotations

import itertools
import mmap
from collections.abc import Iterator
from pathlib import Path

Buffer = memoryview
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
# A graph of ERNIE has some ten thousand fields. The limit is reached in a few seconds.
MAX_FIELDS = 1_000_000


def mapped(path: Path) -> Buffer:
    """The bytes of a file, which are read when they are used. Raises ValueError if it is empty, OSError."""
    with path.open("rb") as file:
        # It is unmapped when the last part of it is freed; the traceback of an error may still have one.
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def fields(data: Buffer, counted: Iterator[int] | None = None) -> Iterator[tuple[int, int | Buffer]]:
    """Number and value of every field; nested messages and strings are parts of the buffer.

    `counted` counts the fields of all messages of a file. Raises ValueError or IndexError if the message is damaged, or
    if there are more than MAX_FIELDS fields.
    """
    at, counted = 0, counted or itertools.count()
    while at < len(data):
        if next(counted) >= MAX_FIELDS:
            raise ValueError("too many fields")
        tag, at = varint(data, at)
        tag &= 0xFFFFFFFF  # as the runtimes read it, so that no bits above hide a field
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            value, at = varint(data, at)
            yield number, value
            continue
        if wire == BYTES:
            size, at = varint(data, at)
        elif wire in (FIXED32, FIXED64):
            size = 4 if wire == FIXED32 else 8
        else:
            raise ValueError(f"unknown wire type {wire}")
        if at + size > len(data):
            raise ValueError("a field is longer than its message")
        part = data[at : at + size]
        yield number, part if wire == BYTES else int.from_bytes(part, "little")
        at += size


def varint(data: Buffer, at: int) -> tuple[int, int]:
    """The integer of variable length at `at`, and the position after it. Raises ValueError or IndexError."""
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise ValueError("a number has more than 64 bits")


def parts(data: Buffer, number: int) -> list[Buffer]:
    """The messages or strings with this number."""
    return [value for found, value in fields(data) if found == number and not isinstance(value, int)]


def texts(data: Buffer, number: int) -> list[str]:
    """The strings with this number; raises UnicodeDecodeError."""
    return [bytes(part).decode() for part in parts(data, number)]


def text(data: Buffer, number: int) -> str:
    """The last string with this number, or an empty one."""
    return "".join(texts(data, number)[-1:])


def number_of(data: Buffer, number: int) -> int:
    """The first integer with this number, or 0."""
    return next((value for found, value in fields(data) if found == number and isinstance(value, int)), 0)


def numbers(data: Buffer, number: int) -> list[int]:
    """A repeated field of signed integers, packed or not."""
    values: list[int] = []
    for found, value in fields(data):
        if found != number:
            continue
        if isinstance(value, int):
            values.append(value)
            continue
        at = 0
        while at < len(value):
            each, at = varint(value, at)
            values.append(each)
    return [value - (1 << 64) if value >= 1 << 63 else value for value in values]
