"""How bodies are read: what is too slow or too much at once, and what is said when the service ends meanwhile."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.types import Message

from service.api.arrival import FREE_BYTES
from tests.service.stand_in import StandInEngine, application, client_of

MODELS = {"reviews": "classify"}
BODY = json.dumps({"text": "今天"}).encode()


class Request:
    """One POST to an application without a socket. After its messages nothing comes."""

    def __init__(self, app: FastAPI, path: str, *chunks: bytes, more: bool) -> None:
        self._chunks: Sequence[bytes] = chunks
        self._more = more
        self.read = 0
        self.sent: list[Message] = []
        self.stalled = asyncio.Event()
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": path,
            "raw_path": path.encode(), "root_path": "", "scheme": "http", "query_string": b"",
            "server": ("service", 80), "client": ("caller", 1),
            "headers": [(b"host", b"service"), (b"content-type", b"application/json")],
        }  # fmt: skip
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    async def _receive(self) -> Message:
        if self.read < len(self._chunks):
            self.read += 1
            last = self.read == len(self._chunks) and not self._more
            return {"type": "http.request", "body": self._chunks[self.read - 1], "more_body": not last}
        self.stalled.set()
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    async def refused(self) -> tuple[int, dict[str, object], dict[bytes, bytes]]:
        """Status, document and headers of the answer."""
        await self.task
        start, body = self.sent
        return start["status"], json.loads(body["body"]), dict(start["headers"])


@pytest.mark.parametrize("path", ["/classify", "/v2/models/reviews/infer"])
async def test_a_body_that_stalls_is_answered_408_and_its_connection_is_closed(tmp_path: Path, path: str) -> None:
    app, engines = application(tmp_path, MODELS, body_seconds=0.02)  # type: ignore[arg-type]
    status, document, headers = await Request(app, path, BODY[:5], more=True).refused()
    assert status == 408
    assert headers[b"connection"] == b"close"
    if path == "/classify":
        assert document["code"] == "body_timeout"
        assert headers[b"content-type"] == b"application/problem+json"
    assert document.get("detail", document.get("error")) == "the body had not arrived after 0.02 s; send it faster."
    assert not engines["reviews"].items


async def test_the_time_for_a_body_is_not_the_time_for_its_answer(tmp_path: Path) -> None:
    app, engines = application(tmp_path, MODELS, body_seconds=0.01)  # type: ignore[arg-type]
    engine: StandInEngine = engines["reviews"]
    engine.hold.clear()
    async with client_of(app) as client:
        asked = asyncio.create_task(
            client.post("/classify", content=BODY, headers={"Content-Type": "application/json"})
        )
        await engine.taken.wait()
        stalled = Request(app, "/classify", BODY[:5], more=True)
        assert (await stalled.refused())[0] == 408  # so the time has passed
        engine.hold.set()
        assert (await asked).status_code == 200


async def test_bodies_that_are_read_at_once_are_bounded_together_but_short_ones_are_always_read(tmp_path: Path) -> None:
    app, _ = application(tmp_path, MODELS, max_reading_bytes=3 * FREE_BYTES)  # type: ignore[arg-type]
    large = b" " * (2 * FREE_BYTES)
    reading = [Request(app, "/classify", large, more=True) for _ in range(3)]
    for each in reading:
        await each.stalled.wait()
    status, document, headers = await Request(app, "/classify", large, more=True).refused()
    assert (status, document["code"]) == (429, "overloaded")
    assert int(headers[b"retry-after"]) >= 1
    assert headers[b"connection"] == b"close"
    async with client_of(app) as client:
        assert (await client.post("/classify", json={"text": "今天"})).status_code == 200
        reading[0].task.cancel()
        await reading[0].task
        again = Request(app, "/classify", large, BODY, more=False)
        await again.task
        assert again.sent[0]["status"] == 200, "what a request that has ended had read must not count any more"
    for each in reading[1:]:
        each.task.cancel()
        await each.task


async def test_a_request_that_the_end_of_the_service_cuts_off_is_answered_503_draining(tmp_path: Path) -> None:
    app, engines = application(tmp_path, MODELS)  # type: ignore[arg-type]
    engines["reviews"].hold.clear()
    asked = Request(app, "/classify", BODY, more=False)
    await engines["reviews"].taken.wait()
    reading = Request(app, "/classify", BODY[:5], more=True)
    await reading.stalled.wait()
    for each in (asked, reading):
        each.task.cancel()  # as uvicorn does when the time for shutting down is over
        status, document, headers = await each.refused()
        assert (status, document["code"]) == (503, "draining")
        assert headers[b"connection"] == b"close"
    assert engines["reviews"].cancelled.is_set()
    async with client_of(app) as client:
        metrics = (await client.get("/metrics")).text
    assert 'ernie_request_failures_total{reason="draining"} 2.0' in metrics


def test_what_may_be_answered_is_in_the_document(tmp_path: Path) -> None:
    app, _ = application(tmp_path, MODELS)  # type: ignore[arg-type]
    for path in ("/classify", "/fill-mask"):
        assert app.openapi()["paths"][path]["post"]["responses"]["408"]["description"] == "body_timeout or head_timeout"


@pytest.mark.parametrize("path", ["/classify", "/v2/models/reviews/infer", "/v2/models/reviews/versions/1/infer"])
async def test_while_no_model_of_an_endpoint_has_a_place_its_requests_are_refused_unread(
    tmp_path: Path, path: str
) -> None:
    app, engines = application(tmp_path, MODELS, max_queue_requests=1)  # type: ignore[arg-type]
    engines["reviews"].hold.clear()
    async with client_of(app) as client:
        held = asyncio.create_task(client.post("/classify", json={"text": "今天"}))
        await engines["reviews"].taken.wait()
        unread = Request(app, path, BODY, more=False)
        status, _, headers = await unread.refused()
        assert (status, unread.read) == (429, 0)
        assert b"retry-after" in headers
        engines["reviews"].hold.set()
        assert (await held).status_code == 200
