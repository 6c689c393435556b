"""What the API process's side of a connection sends, and when."""

import asyncio

import pytest

from service.api.models.engine_link import EngineClient, NeverStarted
from service.messages.frames import FrameReader, frame
from service.messages.inference import Cancel, Infer, Inferred, Item, Output, ToEngine

TEXT = Item([1, 9, 2], [0] * 3)


class Written(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.pieces.append(bytes(data))

    def close(self) -> None:
        pass


async def test_what_is_asked_in_one_turn_of_the_event_loop_is_sent_in_one_piece() -> None:
    transport, client = Written(), EngineClient(lambda _: None)
    client.connection_made(transport)
    asked = [asyncio.create_task(client.infer([TEXT])) for _ in range(5)]
    await asyncio.sleep(0)
    asked[4].cancel()
    while len(transport.pieces) < 2:
        await asyncio.sleep(0)
    first, second = (list(FrameReader(ToEngine).feed(piece)) for piece in transport.pieces)
    assert [message.id for message in first if isinstance(message, Infer)] == [1, 2, 3, 4, 5]
    assert second == [Cancel(5)]
    client.data_received(b"".join(frame(Inferred(number, [Output([0.5])], 0.0, 0.0)) for number in range(1, 5)))
    assert [(await each).id for each in asked[:4]] == [1, 2, 3, 4]


async def test_nothing_is_asked_over_a_connection_that_has_ended() -> None:
    lost: list[EngineClient] = []
    transport, client = Written(), EngineClient(lost.append)
    client.connection_made(transport)
    asked = asyncio.create_task(client.infer([TEXT]))
    await asyncio.sleep(0)
    client.connection_lost(None)
    client.connection_lost(None)
    for question in (asked, client.infer([TEXT])):
        with pytest.raises(NeverStarted):
            await question
    await asyncio.sleep(0)
    assert lost == [client]
    assert not transport.pieces
    client.ready.exception()
