"""Requests that are refused before the application sees them, over real sockets, with stand-in engines."""

import asyncio
import contextlib
import http.client
import json
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from service.connections import bounded
from tests.service.stand_in import application

MODELS = {"reviews": "classify"}
BODY = json.dumps({"text": "今天"}).encode()
PATHS = ("/classify", "/v2/models/reviews/infer", "/v2/models/reviews/versions/1/infer")


def request(path: str = "/classify", body: bytes = BODY, version: str = "1.1", **headers: str) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    head = (
        f"POST {path} HTTP/{version}\r\nHost: service\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{''.join(lines)}\r\n"
    )
    return head.encode() + body


@contextlib.asynccontextmanager
async def full(tmp_path: Path, **settings: object) -> AsyncIterator[tuple[int, FastAPI]]:
    """The port of a service whose only place is taken until the end, and its application."""
    app, engines = application(tmp_path, MODELS, max_queue_requests=1, **settings)  # type: ignore[arg-type]
    config = uvicorn.Config(app, http=bounded(99, 60.0, app.state.refusal), lifespan="off", log_config=None)  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    running = asyncio.create_task(server.serve(sockets=[listener]))
    port = listener.getsockname()[1]
    engines["reviews"].hold.clear()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        headers = {"Authorization": "Bearer good"}
        held = asyncio.create_task(client.post("/classify", json={"text": "今天"}, headers=headers))
        await engines["reviews"].taken.wait()
        try:
            yield port, app
        finally:
            engines["reviews"].hold.set()
            assert (await held).status_code == 200
            server.should_exit = True
            await running


Answered = tuple[int, dict[str, str], bytes]


async def told(
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], sent: bytes, count: int = 1
) -> list[Answered]:
    """Sends all of it at once; status, headers and body of the answers that come, up to the end of the connection."""
    reader, writer = streams
    writer.write(sent)
    answers = []
    with contextlib.suppress(asyncio.IncompleteReadError):
        for _ in range(count):
            head, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            body = await reader.readexactly(int(headers["content-length"]))
            answers.append((int(head.split()[1]), headers, body))
    return answers


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def unheard(*_: object) -> None:
    pytest.fail("the application was called")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kept", [True, False])
async def test_the_answer_is_the_applications_own(tmp_path: Path, path: str, kept: bool) -> None:
    headers = {"X_Request_ID": "abc"} if kept else {"X_Request_ID": "abc", "Connection": "close"}
    async with full(tmp_path) as (port, app):
        async with connected(port) as streams:
            # An application that never refuses at the head answers for itself; so do those that other sites' pages ask.
            ((status, theirs, body),) = await told(streams, request(path, Origin="https://shop.example", **headers))
        heard, app.middleware_stack = app.middleware_stack, unheard
        async with connected(port) as streams:
            ((ours_status, ours, ours_body),) = await told(streams, request(path, **headers))
        app.middleware_stack = heard
    for each in (theirs, ours):
        assert each.pop("server-timing").startswith("total;dur=")
        each.pop("date")
    assert status == 429
    assert http.client.responses[429] == "Too Many Requests"
    assert (ours_status, ours, ours_body) == (status, theirs, body)
    assert ("connection" in ours) is not kept


async def test_it_is_counted_and_logged_like_any_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "service.tracing"):
        async with full(tmp_path, log_requests=True) as (port, _):
            async with connected(port) as streams:
                assert [status for status, _, _ in await told(streams, request(X_Request_ID="abc"))] == [429]
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                metrics = (await client.get("/metrics")).text
    assert 'ernie_requests_total{code="429",endpoint="/classify",model="reviews"} 1.0' in metrics
    assert 'ernie_request_failures_total{reason="overloaded"} 1.0' in metrics
    assert 'ernie_request_duration_seconds_count{model="reviews"} 0.0' in metrics, "refusals make it look fast"
    (line,) = [record for record in caplog.records if getattr(record, "request_id", "") == "abc"]
    assert (line.status, line.failure, line.path) == (429, "overloaded", "/classify")  # type: ignore[attr-defined]


async def test_who_may_not_ask_is_told_that_and_not_how_busy_the_service_is(tmp_path: Path) -> None:
    async with full(tmp_path, api_keys="good") as (port, _), connected(port) as streams:
        for headers, status in (
            ({}, 401),
            ({"Authorization": "Bearer bad"}, 401),
            ({"Authorization": "Bearer good"}, 429),
        ):
            assert [answer[0] for answer in await told(streams, request(**headers))] == [status]


async def test_a_page_of_another_site_can_read_the_refusal(tmp_path: Path) -> None:
    async with full(tmp_path, cors_origins="https://shop.example") as (port, _), connected(port) as streams:
        ((status, headers, _),) = await told(streams, request(Origin="https://shop.example"))
    assert (status, headers["access-control-allow-origin"]) == (429, "https://shop.example")


async def test_a_client_of_http_1_0_gets_its_answer_and_the_end(tmp_path: Path) -> None:
    async with full(tmp_path) as (port, _), connected(port) as streams:
        ((status, headers, _),) = await told(streams, request(version="1.0"), count=2)
        assert (status, headers["connection"]) == (429, "close")
        assert await streams[0].read() == b""


async def test_what_is_sent_with_it_is_not_taken_for_the_next_request(tmp_path: Path) -> None:
    async with full(tmp_path) as (port, _), connected(port) as streams:
        for body in (b"", BODY, b"POST /classify HTTP/1.1\r\n\r\n" * 100, b"a" * 1_000_000):
            assert [answer[0] for answer in await told(streams, request(body=body))] == [429]


@pytest.mark.parametrize("count", [2, 5_000])
async def test_requests_sent_without_waiting_are_answered_in_their_order(tmp_path: Path, count: int) -> None:
    ids = [f"request-{number}" for number in range(count)]
    async with full(tmp_path) as (port, _), connected(port) as streams:
        answers = await told(streams, b"".join(request(X_Request_ID=each) for each in ids), count)
    assert [headers["x-request-id"] for _, headers, _ in answers] == ids
    assert {status for status, _, _ in answers} == {429}
