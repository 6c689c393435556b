"""Connections over real sockets: which of them go when there are too many, or when nothing comes over one."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.app import create_app
from service.api.connection import connections
from service.settings import Settings

REQUEST = b"GET / HTTP/1.1\r\nHost: service\r\n\r\n"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Held:
    """An application that answers when it is let."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.asked = asyncio.Semaphore(0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked.release()
        await self.go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp, keep_alive: float = 60, draining: asyncio.Event | None = None, **limits: object
) -> AsyncIterator[int]:
    """A port where `app` is served."""
    settings = Settings(**limits)  # type: ignore[arg-type]
    exchange = create_app(settings).state.exchange
    http = connections(settings, exchange, (draining or asyncio.Event()).is_set)
    config = uvicorn.Config(app, http=http, lifespan="off", log_config=None, timeout_keep_alive=keep_alive)  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        if isinstance(app, Held):
            app.go.set()
        server.should_exit = True
        await running


async def connect(port: int, count: int) -> list[Streams]:
    return [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]


async def ask(streams: Streams) -> None:
    streams[1].write(REQUEST)
    await streams[1].drain()


async def answered(streams: Streams) -> bool:
    """Whether an answer comes, rather than the end of the connection."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        return (await streams[0].readuntil(b"ok")).startswith(b"HTTP/1.1 200")
    return False


async def test_the_connections_that_are_idle_longest_give_way_to_new_ones() -> None:
    app = Held()
    app.go.set()
    async with serving(app, max_connections=3) as port:
        first = await connect(port, 3)
        second = await connect(port, 2)
        assert [await streams[0].read() for streams in first[:2]] == [b"", b""]
        for streams in [first[2], *second]:
            await ask(streams)
            assert await answered(streams)
        for _, writer in [*first, *second]:
            writer.close()


async def test_while_the_service_drains_an_answer_announces_the_end_of_its_connection() -> None:
    app, draining = Held(), asyncio.Event()
    app.go.set()
    async with serving(app, draining=draining) as port:
        ((reader, writer),) = await connect(port, 1)
        await ask((reader, writer))
        assert b"connection: close" not in (await reader.readuntil(b"ok")).lower()
        draining.set()
        await ask((reader, writer))
        assert b"connection: close" in (await reader.readuntil(b"ok")).lower()
        assert await reader.read() == b""
        writer.close()


async def test_connections_with_a_request_stay_and_a_new_one_is_closed() -> None:
    app = Held()
    async with serving(app, max_connections=2) as port:
        busy = await connect(port, 2)
        for streams in busy:
            await ask(streams)
            await app.asked.acquire()
        (late,) = await connect(port, 1)
        assert await late[0].read() == b""
        app.go.set()
        assert all([await answered(streams) for streams in busy])
        for _, writer in [*busy, late]:
            writer.close()


@pytest.mark.parametrize("said", [b"", b"\r\n", b"GET / HTTP/1.1\r\nHost: ", REQUEST + b"GET / HT"])
async def test_a_connection_over_which_no_whole_head_comes_is_closed(said: bytes) -> None:
    app = Held()
    app.go.set()
    async with serving(app, keep_alive=0.1, head_seconds=0.05) as port:
        ((reader, writer),) = await connect(port, 1)
        writer.write(said)
        answer = await reader.read()  # returns when the other end has closed
        assert answer.count(b"HTTP/1.1 200") == said.count(REQUEST)
        assert answer.count(b"HTTP/1.1 408") == said.strip().endswith((b"Host:", b"HT"))
        writer.close()


async def test_a_request_in_work_is_not_hurried_by_the_bound_on_silence() -> None:
    app = Held()
    async with serving(app, keep_alive=0.05, head_seconds=0.05) as port:
        silent, asking = await connect(port, 2)
        await ask(asking)
        assert await silent[0].read() == b""  # the bound has passed
        app.go.set()
        assert await answered(asking)
        for _, writer in (silent, asking):
            writer.close()
