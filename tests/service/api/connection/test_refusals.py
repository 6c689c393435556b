"""Requests that are refused before the application sees them, over real sockets, with stand-in engines."""

import asyncio
import contextlib
import dataclasses
import gc
import json
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from model_build.bundle import Task
from service.api.connection import MAX_REFUSED_AT_ONCE, Connection, connections
from service.settings import Settings
from tests.service.api.connection.sockets import BODY, connected, request, told, unheard
from tests.service.stand_in import StandInEngine, application

MODELS: dict[str, Task] = {"reviews": "classify"}
PATHS = ("/classify", "/v2/models/reviews/infer", "/v2/models/reviews/versions/1/infer")


@dataclasses.dataclass
class Full:
    """A service whose only place is taken."""

    port: int
    app: FastAPI
    engines: dict[str, StandInEngine]
    server: uvicorn.Server


@contextlib.asynccontextmanager
async def full(
    tmp_path: Path,
    models: dict[str, Task] = MODELS,
    *,
    keep_alive: int = 5,
    **settings: object,
) -> AsyncIterator[Full]:
    """A service whose place for each model that classifies is taken until the end."""
    app, engines = application(tmp_path, models, max_queue_requests=1, **settings)
    http = connections(Settings(), app.state.exchange)
    config = uvicorn.Config(app, http=http, lifespan="off", log_config=None, timeout_keep_alive=keep_alive)  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    running = asyncio.create_task(server.serve(sockets=[listener]))
    port = listener.getsockname()[1]
    classifiers = [name for name, task in models.items() if task == "classify"]
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", headers={"Authorization": "Bearer good"}
    ) as client:
        held = []
        for name in classifiers:
            engines[name].hold.clear()
            held.append(asyncio.create_task(client.post("/classify", json={"text": "今天", "model": name})))
            await engines[name].taken.wait()
        try:
            yield Full(port, app, engines, server)
        finally:
            for name in classifiers:
                engines[name].hold.set()
            assert [(await each).status_code for each in held] == [200] * len(held)
            server.should_exit = True
            await running


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kept", [True, False])
async def test_a_full_service_answers_429_without_fastapi_and_without_reading_the_body(
    tmp_path: Path, path: str, kept: bool
) -> None:
    headers = {"X_Request_ID": "abc"} if kept else {"X_Request_ID": "abc", "Connection": "close"}
    async with full(tmp_path) as service:
        others, service.app.middleware_stack = service.app.middleware_stack, unheard
        async with connected(service.port) as streams:
            sent = request(path, **headers)
            (answer,) = await told(streams, sent[: -len(BODY)])
        service.app.middleware_stack = others
    assert answer.status == 429
    assert answer.headers["x-request-id"] == "abc"
    assert answer.headers["server-timing"].startswith("total;dur=")
    assert int(answer.headers["retry-after"]) >= 1
    assert ("connection" in answer.headers) is not kept


async def test_it_is_counted_and_logged_like_any_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "service.api.telemetry"):
        async with full(tmp_path, log_requests=True) as service, connected(service.port) as streams:
            assert [each.status for each in await told(streams, request(X_Request_ID="abc"))] == [429]
            metrics = await metrics_of(service)
    assert 'ernie_requests_total{code="429",endpoint="/classify",model="reviews"} 1.0' in metrics
    assert 'ernie_request_failures_total{reason="overloaded"} 1.0' in metrics
    assert 'ernie_request_duration_seconds_count{model="reviews"} 0.0' in metrics, "refusals make it look fast"
    (line,) = [record for record in caplog.records if getattr(record, "request_id", "") == "abc"]
    assert (line.status, line.failure, line.path) == (429, "overloaded", "/classify")  # type: ignore[attr-defined]
    assert line.model == "reviews"  # type: ignore[attr-defined]


async def metrics_of(service: Full) -> str:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{service.port}") as client:
        return (await client.get("/metrics")).text


async def test_where_several_models_could_be_meant_it_is_counted_under_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    models: dict[str, Task] = {"reviews": "classify", "titles": "classify"}
    with caplog.at_level(logging.INFO, "service.api.telemetry"):
        async with full(tmp_path, models, log_requests=True) as service, connected(service.port) as streams:
            for path in ("/classify", "/v2/models/titles/infer"):
                assert [each.status for each in await told(streams, request(path, X_Request_ID="abc"))] == [429]
            metrics = await metrics_of(service)
    assert 'ernie_requests_total{code="429",endpoint="/classify",model=""} 1.0' in metrics
    assert 'ernie_requests_total{code="429",endpoint="/v2/models/{name}/infer",model="titles"} 1.0' in metrics
    lines = [record for record in caplog.records if getattr(record, "request_id", "") == "abc"]
    assert [getattr(line, "model", None) for line in lines] == [None, "titles"]


async def test_who_may_not_ask_is_told_that_and_not_how_busy_the_service_is(tmp_path: Path) -> None:
    async with full(tmp_path, api_keys="good") as service, connected(service.port) as streams:
        for headers, status in (
            ({}, 401),
            ({"Authorization": "Bearer bad"}, 401),
            ({"Authorization": "Bearer good"}, 429),
        ):
            assert [each.status for each in await told(streams, request(**headers))] == [status]


async def test_a_page_of_another_site_can_read_the_refusal(tmp_path: Path) -> None:
    async with full(tmp_path, cors_origins="https://shop.example") as service, connected(service.port) as streams:
        (answer,) = await told(streams, request(Origin="https://shop.example"))
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (429, "https://shop.example")


async def test_only_work_is_refused(tmp_path: Path) -> None:
    async with full(tmp_path) as service, connected(service.port) as streams:
        for sent, status in ((b"GET /classify", 405), (b"GET /health/live", 200), (b"POST /health/live", 405)):
            head = sent + b" HTTP/1.1\r\nHost: service\r\nContent-Length: 0\r\n\r\n"
            assert [each.status for each in await told(streams, head)] == [status]


async def test_a_refusal_that_fails_is_logged_and_answered_500(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("of no matter")

    async with full(tmp_path) as service, connected(service.port) as streams:
        monkeypatch.setattr("service.api.gate.Gate.check", broken)
        assert [each.status for each in await told(streams, request(X_Request_ID="abc"))] == [500]
    assert [record.message for record in caplog.records if record.exc_info] == ["request abc failed"]


async def test_a_client_of_http_1_0_gets_its_answer_and_the_end(tmp_path: Path) -> None:
    async with full(tmp_path) as service, connected(service.port) as streams:
        (answer,) = await told(streams, request(version="1.0", Connection="keep-alive") * 5, count=2)
        assert (answer.status, answer.headers["connection"]) == (429, "close")
        metrics = await metrics_of(service)
    assert 'ernie_requests_total{code="429",endpoint="/classify",model="reviews"} 1.0' in metrics


async def test_a_client_that_asks_before_it_sends_its_body_gets_its_answer_and_the_end(tmp_path: Path) -> None:
    """It may send the body or not: nobody can tell where its next request begins."""
    head = request(body=b"", Expect="100-continue").replace(b"Content-Length: 0", b"Content-Length: 9")
    async with full(tmp_path) as service:
        for sent in (head, head.replace(b"Host", b"Origin: https://shop.example\r\nHost")):
            async with connected(service.port) as streams:
                (answer,) = await told(streams, sent, count=2)
                assert (answer.status, answer.headers["connection"]) == (429, "close")


async def test_what_is_sent_with_it_is_not_taken_for_the_next_request(tmp_path: Path) -> None:
    bodies = (b"", BODY, b"POST /classify HTTP/1.1\r\n\r\n" * 100, b"a" * 1_000_000)
    async with full(tmp_path) as service, connected(service.port) as streams:
        for number, body in enumerate(bodies):
            (answer,) = await told(streams, request(body=body, X_Request_ID=f"request-{number}"))
            assert (answer.status, answer.headers["x-request-id"]) == (429, f"request-{number}")
        (answer,) = await told(streams, b"GET /health/live HTTP/1.1\r\nHost: service\r\n\r\n")
        assert answer.status == 200


@pytest.mark.parametrize(
    "broken", [b"Transfer-Encoding: gzip\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nno number\r\n"]
)
async def test_it_is_the_only_answer_however_the_body_goes_on(tmp_path: Path, broken: bytes) -> None:
    async with full(tmp_path) as service, connected(service.port) as streams:
        answers = await told(streams, b"POST /classify HTTP/1.1\r\nHost: service\r\n" + broken, count=2)
        assert len(answers) == 1
        assert answers[0].status in (400, 429)


async def test_an_idle_connection_is_closed_after_a_refusal_as_after_any_answer(tmp_path: Path) -> None:
    async with full(tmp_path, keep_alive=0) as service, connected(service.port) as streams:
        assert [each.status for each in await told(streams, request(), count=2)] == [429]
        assert await streams[0].read() == b""


async def test_a_request_that_comes_together_with_a_refused_one_has_all_the_time_it_needs(tmp_path: Path) -> None:
    models: dict[str, Task] = {"reviews": "classify", "characters": "fill-mask"}
    async with full(tmp_path, models, keep_alive=0) as service, connected(service.port) as streams:
        slow = service.engines["characters"]
        slow.hold.clear()
        filling = json.dumps({"inputs": "今[MASK]"}).encode()
        both = asyncio.create_task(told(streams, request() + request("/fill-mask", filling), count=2))
        await slow.taken.wait()
        await metrics_of(service)  # by now a connection that is silent is closed
        slow.hold.set()
        assert [each.status for each in await both] == [429, 200]


@pytest.mark.parametrize("count", [2, MAX_REFUSED_AT_ONCE - 1])
async def test_requests_sent_without_waiting_are_answered_in_their_order(tmp_path: Path, count: int) -> None:
    ids = [f"request-{number}" for number in range(count)]
    async with full(tmp_path) as service, connected(service.port) as streams:
        answers = await told(streams, b"".join(request(X_Request_ID=each) for each in ids), count)
    assert [each.headers["x-request-id"] for each in answers] == ids
    assert {each.line for each in answers} == {"HTTP/1.1 429 Too Many Requests"}


async def test_who_sends_requests_by_the_thousand_without_waiting_is_not_heard_to_the_end(tmp_path: Path) -> None:
    async with full(tmp_path) as service, connected(service.port) as streams:
        answers = await told(streams, request() * 5_000, 5_000)
        # The end may overtake the last answers. Each piece of what was sent has at most so many.
        assert len(answers) < 5_000
        assert {each.status for each in answers} <= {429}


async def test_while_a_client_does_not_read_nothing_more_is_written_to_it(tmp_path: Path) -> None:
    async with full(tmp_path) as service, connected(service.port) as streams:
        assert [each.status for each in await told(streams, request())] == [429]
        (connection,) = [each for each in service.server.server_state.connections if each.cycle.response_complete]
        connection.pause_writing()  # as the loop says when its buffer is full
        waiting = asyncio.create_task(told(streams, request()))
        for _ in range(3):
            await metrics_of(service)
        assert not waiting.done()
        connection.resume_writing()
        assert [each.status for each in await waiting] == [429]


async def test_who_sends_and_never_reads_is_cut_off(tmp_path: Path) -> None:
    async with full(tmp_path) as service:
        for sent in (request(), b"GET /health/live HTTP/1.1\r\nHost: service\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", service.port)) as client:
                client.setblocking(False)
                loop = asyncio.get_running_loop()
                with pytest.raises(ConnectionError):  # noqa: PT012  # sooner or later
                    for _ in range(100_000):
                        await loop.sock_sendall(client, sent * 10)


async def test_refused_connections_leave_no_garbage(tmp_path: Path) -> None:
    def held() -> int:
        return sum(isinstance(each, Connection) for each in gc.get_objects())

    async with full(tmp_path) as service:
        gc.collect()
        gc.disable()
        try:
            before = held()
            for _ in range(5):
                async with connected(service.port) as streams:
                    assert [each.status for each in await told(streams, request())] == [429]
            while len(service.server.server_state.connections) > 1:
                await asyncio.sleep(0)
            assert held() == before
        finally:
            gc.enable()
