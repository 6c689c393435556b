"""Frames survive any splitting of the stream, and bytes that are no frames are refused."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.messages.frames import FrameError, FrameReader, frame
from service.messages.inference import (
    Alive,
    BatchDone,
    Cancel,
    Failed,
    Infer,
    Inferred,
    Item,
    MaskOutput,
    Output,
    Probe,
    Ready,
    Started,
    ToApi,
    ToEngine,
)

TO_API = [
    Ready(3, "ort", 0.5),
    Inferred(7, [Output(scores=[0.25, 0.75]), Output(masks=[MaskOutput([3, 1], [0.5, 0.25], [0.125])])], 0.5, 0.25),
    Failed(8, "deadline_exceeded", "到期。"),
    BatchDone(3, 30, 40, 0.5, 2, 20),
    Started([7, 8]),
    Alive(2, 20),
]
TO_ENGINE = [
    Infer(1, [Item([1, 5, 2], [0, 0, 0], [1], [4])], 12.5),
    Infer(2, [Item([1, 2], [0, 0])], None, "batch", 2.5),
    Cancel(1),
    Probe(2.5),
]


@given(sizes=st.lists(st.integers(1, 40), min_size=1))
def test_messages_arrive_whole_and_in_order_however_the_stream_is_cut(sizes: list[int]) -> None:
    for messages, types in ((TO_API, ToApi), (TO_ENGINE, ToEngine)):
        stream = b"".join(frame(message) for message in messages)
        reader, got, start, turn = FrameReader(types), [], 0, 0
        while start < len(stream):
            size = sizes[turn % len(sizes)]
            got += list(reader.feed(stream[start : start + size]))
            start, turn = start + size, turn + 1
        assert got == messages


@given(data=st.binary(max_size=200))
def test_any_bytes_give_messages_or_a_frame_error(data: bytes) -> None:
    got: list[object] = []
    with contextlib.suppress(FrameError):
        got += FrameReader(ToEngine).feed(data)
    assert all(isinstance(message, Infer | Cancel) for message in got)


def test_a_frame_that_claims_to_be_huge_is_refused_before_it_is_read() -> None:
    with pytest.raises(FrameError, match="longer than"):
        list(FrameReader(ToEngine).feed(b"\xff\xff\xff\xff"))
