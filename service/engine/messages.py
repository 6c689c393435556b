"""What travels between API and engine processes: msgspec structs in msgpack, each behind a 4-byte length.

A frame is the length of its body as a little-endian unsigned 32-bit integer, then the body.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from service.engine.batching import Priority

MAX_FRAME_BYTES = 64 << 20
_LENGTH = struct.Struct("<I")


class Item(msgspec.Struct, array_like=True):
    """One text as token ids; `mask_positions` are the columns of its masks, `target_ids` the tokens asked about."""

    input_ids: list[int]
    token_type_ids: list[int]
    mask_positions: list[int] = []
    target_ids: list[int] = []


class Infer(msgspec.Struct, tag=True, array_like=True):
    """API to engine: run these items and answer them together.

    `deadline`, and when it was `sent`, are in seconds of CLOCK_MONOTONIC; the wait in the socket counts too.
    """

    id: int
    items: list[Item]
    deadline: float | None = None
    priority: Priority = "interactive"
    sent: float | None = None


class Probe(msgspec.Struct, tag=True, array_like=True):
    """Supervisor to engine: say Alive, with a forward pass no older than `proof_seconds` behind it.

    Whoever has sent one is told of every batch.
    """

    proof_seconds: float


class Cancel(msgspec.Struct, tag=True, array_like=True):
    """API to engine: nobody waits for this request any more."""

    id: int


class Ready(msgspec.Struct, tag=True, array_like=True):
    """Engine to API, first message of a connection: the graph is loaded and has run."""

    num_outputs: int
    backend: str
    warmup_seconds: float


class MaskOutput(msgspec.Struct, array_like=True):
    """Candidates of one mask by falling probability, and the probabilities of the item's targets."""

    top_ids: list[int]
    top_scores: list[float]
    target_scores: list[float]


class Output(msgspec.Struct, array_like=True):
    """Result of one item: class probabilities in label order, or one MaskOutput a mask."""

    scores: list[float] = []
    masks: list[MaskOutput] = []


class Answer(msgspec.Struct, tag=True, array_like=True):
    """Engine to API: the results of a request, in the order of its items."""

    id: int
    outputs: list[Output]
    queue_seconds: float
    inference_seconds: float


class Failed(msgspec.Struct, tag=True, array_like=True):
    """Engine to API: a request that has no results."""

    id: int
    code: Literal["engine_failed", "deadline_exceeded", "invalid_input"]
    message: str


class Started(msgspec.Struct, tag=True, array_like=True):
    """Engine to API: a forward pass begins that has items of these requests. If the engine ends now, they are lost."""

    ids: list[int]


class Alive(msgspec.Struct, tag=True, array_like=True):
    """Engine to supervisor: a Probe was read, and the graph has run lately.

    It says what waits, too: while nothing runs no batch would.
    """

    queue_items: int = 0
    queue_tokens: int = 0


class BatchDone(msgspec.Struct, tag=True, array_like=True):
    """Engine to supervisor: what one forward pass was."""

    items: int
    tokens: int
    padded_tokens: int
    seconds: float
    queue_items: int
    queue_tokens: int


ToEngine = Infer | Cancel | Probe
ToApi = Ready | Started | Answer | Failed | Alive | BatchDone
_encoder = msgspec.msgpack.Encoder()


class FrameError(ValueError):
    """Bytes that are no frame of this protocol; the connection is of no further use."""


def frame(message: msgspec.Struct) -> bytes:
    """The bytes of a message; raises FrameError for one that the other end would refuse."""
    body = _encoder.encode(message)
    if len(body) > MAX_FRAME_BYTES:
        raise FrameError(f"a frame of {len(body)} bytes is longer than {MAX_FRAME_BYTES}.")
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Bytes in, messages out; holds what is incomplete."""

    def __init__(self, types: object) -> None:
        """`types` is the union of the structs that may come, such as ToEngine or ToApi."""
        self._decoder: msgspec.msgpack.Decoder = msgspec.msgpack.Decoder(types)
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Any]:
        """Messages completed by `data`; raises FrameError."""
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
                raise FrameError(f"a frame that is no message: {error}.") from error
