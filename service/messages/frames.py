"""Frames: how messages travel between processes over a Unix socket.

A frame is the length of its body as a little-endian unsigned 32-bit integer, then the body: one msgspec struct in
msgpack.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import msgspec

MAX_FRAME_BYTES = 64 << 20
READ_BYTES = 1 << 20
"""Maximum number of bytes that a reader takes from its socket at once."""
_LENGTH = struct.Struct("<I")
_encoder = msgspec.msgpack.Encoder()


class FrameError(ValueError):
    """Bytes that are not a frame of this protocol. The connection must be closed."""


def frame(message: msgspec.Struct) -> bytes:
    """The bytes of a message; raises FrameError if it is longer than the other end accepts."""
    body = _encoder.encode(message)
    if len(body) > MAX_FRAME_BYTES:
        raise FrameError(f"a frame of {len(body)} bytes is longer than {MAX_FRAME_BYTES}.")
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Converts bytes to messages. Keeps an incomplete frame until the rest arrives."""

    def __init__(self, types: object) -> None:
        """`types` is the union of the structs that the other end may send, such as ToEngine or ToApi."""
        self._decoder: msgspec.msgpack.Decoder = msgspec.msgpack.Decoder(types)
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Any]:
        """The messages that `data` completes; raises FrameError."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > MAX_FRAME_BYTES:
                raise FrameError(f"a frame of {length} bytes is longer than {MAX_FRAME_BYTES}.")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            body = self._buffer[_LENGTH.size : end]
            del self._buffer[:end]
            try:
                yield self._decoder.decode(body)
            except msgspec.DecodeError as error:
                raise FrameError(f"a frame does not hold a known message: {error}.") from error
