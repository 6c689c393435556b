"""Clients that do not read, that still send after a refusal, that leave, and that close only their direction."""

import asyncio
import logging
import socket
import struct
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from tests.service.api.connection.sockets import BODY, connected, request, told
from tests.service.api.connection.test_answers import served
from tests.service.api.connection.test_limits import REQUEST, ask, connect, serving


async def large(scope: Scope, receive: Receive, send: Send) -> None:
    """An application with answers that do not fit into the buffers of the kernel."""
    body = b"a" * 20_000_000
    head = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})


async def not_reading(port: int, sent: bytes) -> socket.socket:
    """A client whose kernel accepts little, after it has sent a request."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
    await asyncio.get_running_loop().sock_sendall(client, sent)
    return client


async def until_end(client: socket.socket) -> int:
    """The number of bytes that a client can still read until the connection ends."""
    total = 0
    try:
        while data := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 1 << 16), 20):
            total += len(data)
    except ConnectionError:
        pass
    finally:
        client.close()
    return total


@pytest.mark.parametrize("last", [b"", b"Connection: close\r\n"])
async def test_a_client_that_does_not_read_is_let_go(last: bytes) -> None:
    async with serving(large, write_seconds=0.2) as port:
        client = await not_reading(port, REQUEST[:-2] + last + b"\r\n")
        await asyncio.sleep(0.6)
        assert await until_end(client) < 20_000_000


async def test_the_bytes_that_wait_are_limited_over_all_connections() -> None:
    async with serving(large, max_sending_bytes=45_000_000) as port:
        clients = []
        for _ in range(4):
            clients.append(await not_reading(port, REQUEST[:-2] + b"Connection: close\r\n\r\n"))
            await asyncio.get_running_loop().sock_recv(clients[-1], 1)  # the answer has been written
        sizes = await asyncio.gather(*map(until_end, clients))
    assert len([size for size in sizes if size < 20_000_000]) == 2


async def test_a_client_that_reads_slowly_is_kept() -> None:
    async with serving(large, write_seconds=0.5) as port:
        client = await not_reading(port, REQUEST)
        for _ in range(20):
            assert await asyncio.get_running_loop().sock_recv(client, 1 << 13)
            await asyncio.sleep(0.05)
        assert await asyncio.get_running_loop().sock_recv(client, 1 << 13)
        client.close()


async def test_closed_connections_do_not_count_as_open() -> None:
    async with serving(large, max_connections=2) as port:
        closed = [await not_reading(port, REQUEST[:-2] + b"Connection: close\r\n\r\n") for _ in range(2)]
        for client in closed:
            await asyncio.get_running_loop().sock_recv(client, 1)  # now the connection is closed by the service
        ((reader, writer),) = await connect(port, 1)
        await ask((reader, writer))
        assert (await asyncio.wait_for(reader.readline(), 20)).startswith(b"HTTP/1.1 200")
        writer.close()
        for client in closed:
            client.close()


def upload(port: int, size: int) -> int:
    head = {"Content-Type": "application/json"}
    body = urllib.request.Request(f"http://127.0.0.1:{port}/classify", b"a" * size, head)
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(body, timeout=20)
    return raised.value.code


async def test_a_client_that_is_still_sending_reads_its_413(tmp_path: Path) -> None:
    async with served(tmp_path) as service:
        assert await asyncio.to_thread(upload, service.port, 10_000_000) == 413


async def test_a_client_that_never_stops_sending_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.api.lingering.LINGER_BYTES", 1 << 20)
    head = request()[: -len(BODY)].replace(b"Content-Length: %d" % len(BODY), b"Content-Length: 100000000")
    async with served(tmp_path) as service, connected(service.port) as (_, writer):
        writer.write(head)
        with pytest.raises(ConnectionError):  # noqa: PT012  # sooner or later
            for _ in range(1000):
                writer.write(b"a" * (1 << 20))
                await writer.drain()


async def test_lingering_ends_after_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.api.lingering.LINGER_SECONDS", 0.1)
    head = request()[: -len(BODY)].replace(b"Content-Length: %d" % len(BODY), b"Content-Length: 100000000")
    async with served(tmp_path) as service, connected(service.port) as streams:
        assert [each.status for each in await told(streams, head)] == [413]
        while service.server.server_state.connections:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("ahead", [1, 2, 3, 50])
async def test_who_leaves_with_requests_sent_ahead_is_a_client_that_left(
    tmp_path: Path, ahead: int, reset: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(tmp_path) as service:
        engine = service.engines["reviews"]
        engine.hold.clear()
        async with connected(service.port) as (_, writer):
            writer.write(request() * ahead)
            await engine.taken.wait()
            if reset:
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        await asyncio.wait_for(engine.cancelled.wait(), 10)
        engine.hold.set()
        metrics = await service.metrics()
        assert len(engine.items) == 1
    assert 'ernie_inflight_requests{model="reviews"} 0.0' in metrics
    assert 'ernie_requests_total{code="200",endpoint="/classify",model="reviews"} 0.0' in metrics
    assert 'code="500",endpoint="/classify",model="reviews"} 0.0' in metrics
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("sent", [request(), request() * 3, request() + REQUEST, request(version="1.0"), REQUEST])
async def test_a_client_that_closes_only_its_direction_gets_its_answers(tmp_path: Path, sent: bytes) -> None:
    async with served(tmp_path) as service, connected(service.port) as (reader, writer):
        engine = service.engines["reviews"]
        engine.hold.clear()
        writer.write(sent)
        writer.write_eof()
        if sent.startswith(b"POST"):
            await engine.taken.wait()
            for _ in range(3):
                await service.metrics()
            await asyncio.sleep(0.06)
        engine.hold.set()
        answer = await asyncio.wait_for(reader.read(), 20)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == sent.count(b" HTTP/1.")
    assert answer.count(b"HTTP/1.1") == sent.count(b" HTTP/1.")
    assert answer.count(b"connection: close") == 1
