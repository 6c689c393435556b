"""Answers over real sockets: by our connection, and by the application on plain uvicorn, which must be the same."""

import asyncio
import contextlib
import dataclasses
import gc
import json
import logging
import random
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from benchmarks.serving.fuzz_bodies import KINDS
from model_build.bundle import Task
from service.api.connection import ATTRIBUTES, Connection, check_uvicorn, connections
from service.api.models.engine_link import EngineFailed
from service.settings import Settings
from tests.service.api.connection.sockets import BODY, connected, request, told, unheard
from tests.service.stand_in import StandInEngine, application

MODELS: dict[str, Task] = {"reviews": "classify", "characters": "fill-mask"}
GOOD = [
    ("/classify", BODY),
    ("/classify", b'{"inputs": ["\xe4\xbb\x8a\xe5\xa4\xa9", {"text": "a", "text_pair": "b"}], "top_k": 1}'),
    ("/classify", b'{"text": "\\u4eca", "priority": "batch", "model": "reviews"}'),
    ("/classify", json.dumps({"text": "今天" * 40}).encode()),
    ("/fill-mask", b'{"inputs": "[MASK]", "targets": ["\xe4\xbb\x8a"]}'),
    ("/fill-mask", b'{"inputs": ["[MASK][MASK]"], "strategy": "joint", "span": 2}'),
]
REFUSED = [
    ("/classify", b'{"text": "a", "model": "nobody"}'),
    ("/classify", b'{"text": "a", "model": "characters"}'),
    ("/classify", json.dumps({"text": "今天" * 40, "truncation": "error"}).encode()),
    ("/fill-mask", b'{"inputs": "no mask"}'),
    ("/fill-mask", b'{"inputs": "[MASK]", "top_k": 1000}'),
]


@dataclasses.dataclass
class Served:
    """A running service."""

    port: int
    app: FastAPI
    engines: dict[str, StandInEngine]
    server: uvicorn.Server
    draining: asyncio.Event

    async def metrics(self) -> str:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}") as client:
            return (await client.get("/metrics")).text

    def without_application(self) -> None:
        """From now on, a request that gets to FastAPI fails the test."""
        self.app.middleware_stack = unheard


@contextlib.asynccontextmanager
async def served(
    folder: Path, *, plain: bool = False, keep_alive: int = 5, **settings: object
) -> AsyncIterator[Served]:
    """The service on our connections, or on uvicorn's own if `plain`."""
    app, engines = application(folder, MODELS, **settings)
    draining = asyncio.Event()
    http = "httptools" if plain else connections(Settings(**settings), app.state.exchange, draining.is_set)
    config = uvicorn.Config(app, http=http, lifespan="off", log_config=None, timeout_keep_alive=keep_alive)  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield Served(listener.getsockname()[1], app, engines, server, draining)
    finally:
        for engine in engines.values():
            engine.hold.set()
        server.should_exit = True
        await running


async def raw(port: int, sent: bytes) -> bytes:
    """The bytes of one answer, without the time of day and with 0 for what took time."""
    async with connected(port) as (reader, writer):
        writer.write(sent)
        head = await reader.readuntil(b"\r\n\r\n")
        found = re.search(rb"content-length: (\d+)", head)
        assert found is not None
        body = await reader.readexactly(int(found.group(1)))
    head = re.sub(rb"date: [^\r]+", b"date: now", head)
    return re.sub(rb"dur=[\d.]+", b"dur=0", head) + body


async def test_both_ways_into_the_service_give_the_same_answer_byte_by_byte(tmp_path: Path) -> None:
    rng = random.Random(3)
    sent = [*GOOD, *REFUSED]
    for _ in range(150):
        path = rng.choice(("/classify", "/fill-mask"))
        kind = rng.choice([each for each in KINDS if each != "deep nesting"])
        sent.append((path, KINDS[kind][1](rng, path)))
    statuses = set()
    async with served(tmp_path / "ours") as ours, served(tmp_path / "plain", plain=True) as plain:
        for path, body in sent:
            if b"timeout_ms" in body:
                continue  # a deadline may pass on one way and not on the other
            more = rng.choice(({}, {"Connection": "close"}, {"version": "1.0"}))
            bytes_ = request(path, body, X_Request_ID="abc", **more)
            answer = await raw(ours.port, bytes_)
            assert answer == await raw(plain.port, bytes_), (path, body)
            statuses.add(answer.split()[1])
    assert {b"200", b"400", b"404", b"409", b"422"} <= statuses


@pytest.mark.parametrize(
    ("failure", "more", "status"),
    [
        (EngineFailed("engine_failed", "it ended."), b"", b"503"),
        (EngineFailed("deadline_exceeded", "too late."), b"", b"504"),
        (None, b', "timeout_ms": 1', b"504"),
    ],
)
async def test_failures_of_the_engine_and_deadlines_have_the_same_answer_on_both_ways(
    tmp_path: Path, failure: Exception | None, more: bytes, status: bytes
) -> None:
    bytes_ = request(body=BODY[:-1] + more + b"}", X_Request_ID="abc")
    answers = []
    for plain in (False, True):
        async with served(tmp_path / str(plain), plain=plain) as service:
            engine = service.engines["reviews"]
            engine.failure = failure
            if failure is None:
                engine.hold.clear()
            if not plain:
                service.without_application()
            answers.append(await raw(service.port, bytes_))
    assert answers[0] == answers[1]
    assert answers[0].split()[1] == status


@pytest.mark.parametrize(("path", "body"), [*GOOD, *REFUSED])
async def test_requests_that_do_work_do_not_get_to_fastapi(tmp_path: Path, path: str, body: bytes) -> None:
    async with served(tmp_path, api_keys="good") as service, connected(service.port) as streams:
        service.without_application()
        for more in ({}, {"Accept": "*/*", "X_Request_ID": "abc"}):
            (answer,) = await told(streams, request(path, body, Authorization="Bearer good", **more))
            assert (answer.status == 200) is ((path, body) in GOOD)
            assert len(answer.headers["x-request-id"]) == (3 if more else 32)
            assert float(answer.headers["server-timing"].rsplit("total;dur=")[1]) > 0


async def test_a_refusal_that_waits_for_its_reader_ends_the_connection_of_a_client_that_waits_for_100(
    tmp_path: Path,
) -> None:
    async with served(tmp_path, api_keys="good") as service, connected(service.port) as streams:
        (answer,) = await told(streams, request(Authorization="Bearer good"))
        (connection,) = service.server.server_state.connections
        connection.pause_writing()  # as the loop does when its buffer is full
        asked = asyncio.create_task(told(streams, request(Expect="100-continue")[: -len(BODY)], 2))
        for _ in range(3):
            await service.metrics()
        assert not asked.done()
        connection.resume_writing()
        (answer,) = await asked
    assert (answer.status, answer.headers["connection"]) == (401, "close")


async def test_a_client_that_waits_for_100_continue_gets_it_and_then_its_answer(tmp_path: Path) -> None:
    async with served(tmp_path) as service, connected(service.port) as (reader, writer):
        service.without_application()
        writer.write(request(Expect="100-continue")[: -len(BODY)])
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert [each.status for each in await told((reader, writer), BODY)] == [200]


@pytest.mark.parametrize("cut", [1, len(BODY)])
async def test_a_body_that_comes_later_than_its_head_is_waited_for(tmp_path: Path, cut: int) -> None:
    async with served(tmp_path) as service, connected(service.port) as streams:
        sent = request()
        streams[1].write(sent[:-cut])
        await service.metrics()  # by now that has been read
        assert [each.status for each in await told(streams, sent[-cut:])] == [200]


async def test_a_body_that_never_comes_is_answered_408_and_one_that_is_too_large_413(tmp_path: Path) -> None:
    async with served(tmp_path, body_seconds=0.02, max_body_bytes=100) as service:
        async with connected(service.port) as streams:
            assert [each.status for each in await told(streams, request()[:-1])] == [408]
        large = json.dumps({"text": "今" * 100}, ensure_ascii=False).encode()
        chunked = (
            b"POST /classify HTTP/1.1\r\nHost: service\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked"
        )
        for sent in (request(body=large), chunked + b"\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(large), large)):
            async with connected(service.port) as streams:
                assert [each.status for each in await told(streams, sent)] == [413]


async def test_a_client_that_leaves_takes_its_work_with_it(tmp_path: Path) -> None:
    async with served(tmp_path) as service:
        engine = service.engines["reviews"]
        engine.hold.clear()
        async with connected(service.port) as (_, writer):
            writer.write(request())
            await engine.taken.wait()
        await asyncio.wait_for(engine.cancelled.wait(), 10)
        engine.hold.set()
        metrics = await service.metrics()
    assert 'ernie_inflight_requests{model="reviews"} 0.0' in metrics
    assert 'ernie_requests_total{code="200",endpoint="/classify",model="reviews"} 0.0' in metrics
    assert not service.server.server_state.tasks


async def test_requests_sent_ahead_are_answered_in_their_order(tmp_path: Path) -> None:
    async with served(tmp_path) as service, connected(service.port) as streams:
        engine = service.engines["reviews"]
        engine.hold.clear()
        health = b"GET /health/live HTTP/1.1\r\nHost: service\r\nX-Request-ID: 2\r\n\r\n"
        bad = request(body=b"{}", X_Request_ID="3")
        all_of_them = request(X_Request_ID="1") + health + bad + request(X_Request_ID="4") + request(X_Request_ID="5")
        asked = asyncio.create_task(told(streams, all_of_them, 5))
        await engine.taken.wait()
        assert len(engine.items) == 1
        engine.hold.set()
        answers = await asked
    assert [(each.headers["x-request-id"], each.status) for each in answers] == [
        ("1", 200), ("2", 200), ("3", 422), ("4", 200), ("5", 200),
    ]  # fmt: skip


async def test_while_the_service_drains_an_answer_announces_the_end_of_its_connection(tmp_path: Path) -> None:
    async with served(tmp_path) as service, connected(service.port) as streams:
        (answer,) = await told(streams, request())
        assert "connection" not in answer.headers
        service.draining.set()
        (answer,) = await told(streams, request(), 2)
        assert (answer.status, answer.headers["connection"]) == (200, "close")


async def test_what_the_end_of_the_service_cuts_off_is_answered_503_draining(tmp_path: Path) -> None:
    async with served(tmp_path) as service, connected(service.port) as streams:
        engine = service.engines["reviews"]
        engine.hold.clear()
        asked = asyncio.create_task(told(streams, request(), 2))
        await engine.taken.wait()
        for task in service.server.server_state.tasks:
            task.cancel()  # as uvicorn does when the time for shutting down is over
        (answer,) = await asked
        assert (answer.status, answer.headers["connection"]) == (503, "close")
        assert json.loads(answer.body)["code"] == "draining"
        assert engine.cancelled.is_set()
        metrics = await service.metrics()
    assert 'ernie_request_failures_total{reason="draining"} 1.0' in metrics


async def test_an_idle_connection_is_closed_after_it_as_after_any_answer(tmp_path: Path) -> None:
    async with served(tmp_path, keep_alive=0) as service, connected(service.port) as streams:
        assert [each.status for each in await told(streams, request(), count=2)] == [200]
        assert await streams[0].read() == b""


async def test_while_a_client_does_not_read_nothing_is_written_to_it(tmp_path: Path) -> None:
    async with served(tmp_path) as service, connected(service.port) as streams:
        engine = service.engines["reviews"]
        engine.hold.clear()
        asked = asyncio.create_task(told(streams, request()))
        await engine.taken.wait()
        (connection,) = service.server.server_state.connections
        connection.pause_writing()  # as the loop says when its buffer is full
        engine.hold.set()
        for _ in range(3):
            await service.metrics()
        assert not asked.done()
        connection.resume_writing()
        assert [each.status for each in await asked] == [200]


async def test_it_is_counted_and_logged_like_any_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "service.api.telemetry"):
        async with served(tmp_path, log_requests=True) as service, connected(service.port) as streams:
            await told(streams, request(X_Request_ID="abc"))
            await told(streams, request(body=b'{"text": "a", "model": "nobody"}', X_Request_ID="def"))
            metrics = await service.metrics()
    for line in (
        'ernie_requests_total{code="200",endpoint="/classify",model="reviews"} 1.0',
        'ernie_requests_total{code="404",endpoint="/classify",model=""} 1.0',
        'ernie_request_failures_total{reason="model_not_found"} 1.0',
        'ernie_request_duration_seconds_count{model="reviews"} 1.0',
        'ernie_tokenize_seconds_count{model="reviews"} 1.0',
        'ernie_queue_seconds_count{model="reviews"} 1.0',
        'ernie_inflight_requests{model="reviews"} 0.0',
    ):
        assert line in metrics
    good, bad = (record for record in caplog.records if getattr(record, "request_id", "") in ("abc", "def"))
    assert (good.status, good.path, good.model) == (200, "/classify", "reviews")  # type: ignore[attr-defined]
    assert (bad.status, bad.failure, hasattr(bad, "model")) == (404, "model_not_found", False)  # type: ignore[attr-defined]


async def test_a_failure_of_our_own_code_is_a_500_that_is_counted_and_logged_and_nothing_is_run_twice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    async def broken(*_: object) -> None:
        nonlocal calls
        calls += 1
        raise RuntimeError("of no matter")

    async with served(tmp_path) as service, connected(service.port) as streams:
        monkeypatch.setattr("service.api.tasks.classify.Classify.answer", broken)
        answers = await told(streams, request(X_Request_ID="abc") * 2, 2)
        metrics = await service.metrics()
    assert [(each.status, json.loads(each.body)["code"]) for each in answers] == [(500, "internal")] * 2
    assert calls == 2
    assert 'ernie_requests_total{code="500",endpoint="/classify",model=""} 2.0' in metrics
    assert 'ernie_request_failures_total{reason="internal"} 2.0' in metrics
    assert [record.message for record in caplog.records if record.exc_info] == ["request abc failed"] * 2


async def test_a_failure_inside_a_callback_of_the_parser_is_a_500_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("of no matter")

    async with served(tmp_path) as service:
        async with connected(service.port) as streams:
            with monkeypatch.context() as patched:
                patched.setattr(service.app.state.exchange, "open", broken)
                (answer,) = await told(streams, request(X_Request_ID="abc"), 2)
        metrics = await service.metrics()
    assert (answer.status, answer.headers["x-request-id"], answer.headers["connection"]) == (500, "abc", "close")
    assert 'ernie_requests_total{code="500",endpoint="/classify",model=""} 1.0' in metrics
    assert [record.message for record in caplog.records if record.exc_info] == ["a request could not be accepted"]


def test_an_unknown_uvicorn_is_refused_with_the_name_of_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    check_uvicorn()
    with monkeypatch.context() as patched:
        patched.delattr(HttpToolsProtocol, "_start_asgi_task")
        with pytest.raises(RuntimeError, match="HttpToolsProtocol has no _start_asgi_task"):
            check_uvicorn()
    for kind in (HttpToolsProtocol, RequestResponseCycle):
        for name in ATTRIBUTES[kind].split():
            assert name in {*dir(kind), *kind.__init__.__code__.co_names}  # type: ignore[misc]


async def test_answered_connections_leave_no_garbage(tmp_path: Path) -> None:
    def held() -> int:
        return sum(isinstance(each, Connection) for each in gc.get_objects())

    async with served(tmp_path) as service:
        gc.collect()
        before = held()  # errors that other tests keep hold some
        gc.disable()
        try:
            for _ in range(5):
                async with connected(service.port) as streams:
                    assert [each.status for each in await told(streams, request())] == [200]
            while service.server.server_state.connections:
                await asyncio.sleep(0)
            assert held() == before
        finally:
            gc.enable()
