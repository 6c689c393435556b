"""The short way past FastAPI's routing: the same answers as by the long one, whatever is sent."""

import asyncio
import random
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message

from benchmarks.fuzz_bodies import KINDS
from service.direct import Direct
from tests.service.stand_in import application, client_of

MODELS = {"reviews": "classify", "characters": "fill-mask"}
GOOD = [
    ("/classify", b'{"inputs": ["\xe4\xbb\x8a\xe5\xa4\xa9", {"text": "a", "text_pair": "b"}], "top_k": 1}'),
    ("/classify", b'{"text": "\\u4eca", "priority": "batch"}'),
    ("/fill-mask", b'{"inputs": "[MASK]", "targets": ["\xe4\xbb\x8a"]}'),
    ("/fill-mask", b'{"inputs": "[MASK][MASK]", "strategy": "joint"}'),
]


def without_direct(app: FastAPI) -> FastAPI:
    app.user_middleware = [each for each in app.user_middleware if each.cls is not Direct]
    return app


async def told(client: httpx.AsyncClient, path: str, body: bytes, media_type: str) -> tuple[int, object]:
    """Status and document, without what differs between any two answers."""
    answer = await client.post(path, content=body, headers={"Content-Type": media_type})
    document = answer.json()
    document.pop("request_id", None)
    return answer.status_code, document


async def test_every_body_is_answered_as_without_it(tmp_path: Path) -> None:
    short, _ = application(tmp_path / "short", MODELS)  # type: ignore[arg-type]
    long, _ = application(tmp_path / "long", MODELS)  # type: ignore[arg-type]
    assert any(each.cls is Direct for each in short.user_middleware)
    rng = random.Random(3)
    sent = list(GOOD)
    for _ in range(400):
        path = rng.choice(("/classify", "/fill-mask"))
        kind = rng.choice([each for each in KINDS if each != "deep nesting"])
        sent.append((path, KINDS[kind][1](rng, path)))
    statuses = set()
    async with client_of(short) as one, client_of(without_direct(long)) as other:
        for path, body in sent:
            media_type = rng.choice(("application/json", "application/json; charset=utf-8", "text/plain"))
            if b"timeout_ms" in body:
                continue  # a deadline may pass by the one way and not by the other
            answer = await told(one, path, body, media_type)
            assert answer == await told(other, path, body, media_type), (path, body)
            statuses.add(answer[0])
    assert {200, 400, 422} <= statuses


@pytest.mark.parametrize(
    ("path", "status"),
    [("/classify", 429), ("/v2/models/reviews/infer", 429), ("/v2/models/reviews/versions/1/infer", 429)],
)
async def test_while_no_model_of_an_endpoint_has_a_place_its_requests_are_refused_unread(
    tmp_path: Path, path: str, status: int
) -> None:
    app, engines = application(tmp_path, MODELS, max_queue_requests=1)  # type: ignore[arg-type]
    engines["reviews"].hold.clear()
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        pytest.fail("the body was read")

    async with client_of(app) as client:
        held = asyncio.create_task(client.post("/classify", json={"text": "今天"}))
        await engines["reviews"].taken.wait()
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": path,
            "raw_path": path.encode(), "root_path": "", "scheme": "http", "query_string": b"",
            "server": ("service", 80), "client": ("caller", 1), "headers": [(b"content-type", b"application/json")],
        }  # fmt: skip
        await app(scope, receive, send)
        engines["reviews"].hold.set()
        assert (await held).status_code == 200
    assert sent[0]["status"] == status
    assert b"retry-after" in dict(sent[0]["headers"])
