"""What the open loop counts as sent, as not sent and as lost, over real sockets."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from benchmarks.serving import open_loop
from benchmarks.serving.closed_loop import Load
from benchmarks.serving.open_loop import Offered, offer
from benchmarks.serving.overload import show

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def offered_to(answering: Answering, rate: float, seconds: float) -> Offered:
    """A round without settling, of a server that answers like that."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"{}"):
                await answering(reader, writer)
        except asyncio.IncompleteReadError:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1") as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return await offer(Load(url, "/classify", [b"{}"]), rate, seconds, 1, settling=0.0)


async def test_a_request_that_falls_due_while_every_connection_is_busy_is_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(open_loop, "CLIENT_CONNECTIONS", 3)
    opened = set()

    async def after_the_round(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.add(writer)
        await asyncio.sleep(1.0)
        writer.write(OK)

    found = await offered_to(after_the_round, rate=200, seconds=0.3)
    assert len(opened) == 3
    assert found.unsent == found.arrivals - 3 > 0
    assert not found.kept_up


async def test_a_lost_connection_is_counted_and_the_round_continues() -> None:
    asked = []

    async def every_other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(writer)
        if len(asked) % 2:
            writer.transport.abort()
        else:
            writer.write(OK)

    found = await offered_to(every_other, rate=200, seconds=0.3)
    assert sum(found.lost.values()) == (len(asked) + 1) // 2 > 1
    assert found.answers.keys() == {200}


async def test_a_refused_connection_is_counted() -> None:
    async with await asyncio.start_server(lambda *streams: None, "127.0.0.1") as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    found = await offer(Load(url, "/classify", [b"{}"]), 100, 0.2, 1, settling=0.0)
    assert found.lost == {"ConnectionRefusedError": found.arrivals}
    assert not found.answers


@pytest.mark.parametrize(("sent", "named"), [(98, False), (97, True)])
def test_a_client_that_sent_too_little_is_named(sent: int, named: bool, capsys: pytest.CaptureFixture[str]) -> None:
    show(3.0, [50.0], [Offered(1.0, arrivals=100, unsent=100 - sent, late=[0.1] * sent)])
    assert ("DID NOT KEEP UP in 1 of 1" in capsys.readouterr().out) == named
