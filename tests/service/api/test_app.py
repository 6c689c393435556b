"""The application without sockets and with stand-in engines (see stand_in.py): what depends on timing or on failure.

What the endpoints answer from real engines is tested over real HTTP in test_endpoints.py.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Message

from service.api.models.engine_link import EngineFailed
from service.engine.core import REFUSED
from tests.service.stand_in import TOP_CANDIDATES, StandInEngine, application, client_of

MODELS = {"reviews": "classify", "characters": "fill-mask"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def built(tmp_path: Path) -> tuple[FastAPI, dict[str, StandInEngine]]:
    return application(tmp_path, MODELS, max_queue_requests=1)  # type: ignore[arg-type]


@pytest.fixture
def app(built: tuple[FastAPI, dict[str, StandInEngine]]) -> FastAPI:
    return built[0]


@pytest.fixture
def engines(built: tuple[FastAPI, dict[str, StandInEngine]]) -> dict[str, StandInEngine]:
    return built[1]


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as opened:
        yield opened


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a problem document, whose form is checked."""
    document = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert document["status"] == answer.status_code
    assert document["request_id"] == answer.headers["x-request-id"]
    return answer.status_code, document["code"]


async def test_a_client_that_leaves_cancels_the_engines_work(app: FastAPI, engines: dict[str, StandInEngine]) -> None:
    engine = engines["reviews"]
    engine.hold.clear()
    body = json.dumps({"text": "今天"}).encode()
    sent: list[Message] = []
    first = True

    async def receive() -> Message:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": body, "more_body": False}
        await engine.taken.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": "/classify",
        "raw_path": b"/classify", "root_path": "", "scheme": "http", "query_string": b"", "server": ("service", 80),
        "client": ("caller", 1), "headers": [(b"host", b"service"), (b"content-type", b"application/json")],
    }  # fmt: skip
    await asyncio.wait_for(app(scope, receive, send), 10)
    assert engine.cancelled.is_set()
    assert sent == []
    assert app.state.catalog.served["reviews"].admission.requests == 0


async def test_a_client_that_leaves_before_its_body_has_come_costs_no_work(
    app: FastAPI, engines: dict[str, StandInEngine]
) -> None:
    messages: Iterator[Message] = iter(
        [{"type": "http.request", "body": b'{"text": ', "more_body": True}, {"type": "http.disconnect"}]
    )

    async def receive() -> Message:
        return next(messages)

    async def send(message: Message) -> None:
        raise AssertionError(f"nobody is there to be sent {message}")

    scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/classify", "query_string": b""}
    scope["headers"] = [(b"host", b"service")]
    await app(scope, receive, send)
    assert not engines["reviews"].items


async def test_a_request_whose_time_runs_out_is_cancelled_and_answered_504(
    client: httpx.AsyncClient, engines: dict[str, StandInEngine]
) -> None:
    engines["reviews"].hold.clear()
    answer = await client.post("/classify", json={"text": "今天", "timeout_ms": 20})
    assert refusal(answer) == (504, "deadline_exceeded")
    assert engines["reviews"].cancelled.is_set()


async def test_a_full_queue_is_429_with_whole_seconds_to_wait_and_another_model_goes_on(
    client: httpx.AsyncClient, engines: dict[str, StandInEngine]
) -> None:
    engines["reviews"].hold.clear()
    held = asyncio.create_task(client.post("/classify", json={"text": "今天"}))
    await engines["reviews"].taken.wait()
    refused = await client.post("/classify", json={"text": "今天"})
    assert refusal(refused) == (429, "overloaded")
    assert int(refused.headers["retry-after"]) >= 1
    assert (await client.post("/fill-mask", json={"text": "今[MASK]"})).status_code == 200
    engines["reviews"].hold.set()
    assert (await held).status_code == 200


async def test_an_engine_that_fails_is_503_and_one_that_starts_is_503_not_ready(
    client: httpx.AsyncClient, engines: dict[str, StandInEngine]
) -> None:
    engines["reviews"].failure = EngineFailed("engine_failed", "the engine stopped while it had this request.")
    failed = await client.post("/classify", json={"text": "今天"})
    assert refusal(failed) == (503, "engine_failed")
    assert int(failed.headers["retry-after"]) >= 1
    engines["reviews"].ready = None
    assert refusal(await client.post("/classify", json={"text": "今天"})) == (503, "not_ready")
    assert refusal(await client.get("/health/ready")) == (503, "not_ready")
    assert (await client.get("/health/live")).status_code == 200
    metrics = (await client.get("/metrics")).text
    assert 'ernie_request_duration_seconds_count{model="reviews"} 0.0' in metrics, "they make it look fast"
    assert 'ernie_requests_total{code="404",endpoint="/classify",model=""} 0.0' in metrics, "a rate needs a beginning"


async def test_a_text_that_ended_an_engine_is_422_and_counted(
    client: httpx.AsyncClient, engines: dict[str, StandInEngine]
) -> None:
    engines["reviews"].failure = EngineFailed("refused_input", REFUSED)
    answer = await client.post("/classify", json={"text": "今天"})
    assert refusal(answer) == (422, "refused_input")
    assert answer.json()["detail"] == REFUSED
    assert "retry-after" not in answer.headers
    assert 'ernie_request_failures_total{reason="refused_input"} 1.0' in (await client.get("/metrics")).text


async def test_a_service_that_drains_is_not_ready_but_goes_on_answering(
    client: httpx.AsyncClient, app: FastAPI
) -> None:
    assert (await client.get("/health/ready")).status_code == 200
    app.state.draining = True
    assert refusal(await client.get("/health/ready")) == (503, "draining")
    assert (await client.post("/classify", json={"text": "今天"})).status_code == 200


async def test_a_defect_of_the_service_is_a_problem_document_that_is_named_and_counted(
    client: httpx.AsyncClient, engines: dict[str, StandInEngine]
) -> None:
    engines["reviews"].failure = KeyError("a defect")
    answer = await client.post("/classify", json={"text": "今天"}, headers={"X-Request-ID": "mine"})
    assert refusal(answer) == (500, "internal")
    assert answer.headers["x-request-id"] == "mine"
    assert "a defect" not in answer.text
    metrics = (await client.get("/metrics")).text
    assert 'ernie_requests_total{code="500",endpoint="/classify",model="reviews"} 1.0' in metrics
    assert 'ernie_request_failures_total{reason="internal"} 1.0' in metrics


@pytest.mark.parametrize(
    "content",
    [
        r'{"text": "\ud800"}',
        r'{"text": "今", "text_pair": "\udfff"}',
        r'{"inputs": ["今", "天\ud83d"]}',
        r'{"inputs": {"text": "今", "\ud800": 1}}',
        r'{"text": "今", "\ud800": 1}',
        r'{"text": "今", "model": "\ud800"}',
        r'{"text": "今", "truncation": "\ud800"}',
        r'{"text": "[MASK]", "targets": ["\ud800"]}',
    ],
)
async def test_half_a_surrogate_pair_anywhere_is_refused_before_the_tokenizer_which_would_abort(
    client: httpx.AsyncClient, content: str
) -> None:
    for endpoint in ("/classify", "/fill-mask"):
        assert refusal(await client.post(endpoint, content=content, headers=JSON)) == (422, "invalid_input")


async def test_both_halves_of_a_surrogate_pair_are_a_character(client: httpx.AsyncClient) -> None:
    answer = await client.post("/classify", content=r'{"text": "\ud83d\ude00"}', headers=JSON)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{"text": "\xff"}', "the body is not UTF-8 at byte 10."),
        (b'{"text": ', "at character 9."),
        (b"[" * 10_000, "the body is nested too deeply."),
        (b'{"text": "a", "top_k": ' + b"9" * 5000 + b"}", "the body holds a number with too many digits."),
    ],
    ids=["not UTF-8", "cut", "deep", "digits"],
)
async def test_what_is_wrong_with_the_bytes_is_said_with_its_place(
    client: httpx.AsyncClient, content: bytes, sentence: str
) -> None:
    answer = await client.post("/classify", content=content, headers=JSON)
    assert refusal(answer) == (400, "invalid_json")
    assert sentence in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"text": "a", "x" * 100_000: 1}, 422),
        ({"text": "a", "model": "x" * 100_000}, 404),
        ({"text": "[MASK]", "targets": ["x" * 100_000]}, 422),
        ({"text": "[MASK]", "top_k": 10**400}, 422),
    ],
)
async def test_a_problem_repeats_what_was_sent_but_not_at_any_length(
    client: httpx.AsyncClient, body: object, status: int
) -> None:
    answer = await client.post("/fill-mask", json=body)
    assert answer.status_code == status
    assert len(answer.content) < 1000


async def test_a_list_of_hundreds_of_thousands_is_refused_before_it_is_validated(client: httpx.AsyncClient) -> None:
    for inputs in (["a"] * 400_000, [""] * 400_000):
        answer = await client.post("/classify", json={"inputs": inputs})
        assert refusal(answer) == (413, "too_large")
        # 2.3 and 8 seconds, had every text been looked at.
        assert float(answer.headers["server-timing"].rsplit("dur=", 1)[1]) < 500


async def test_other_requests_are_answered_while_hundreds_of_texts_are_tokenised(client: httpx.AsyncClient) -> None:
    many = asyncio.create_task(
        client.post("/classify", json={"inputs": ["今天气真好" * 190] * 256, "truncation": "truncate"})
    )
    answered = 0
    while not many.done():
        answered += (await client.get("/health/live")).status_code == 200
        await asyncio.sleep(0)  # without a socket a request is answered without giving way
    assert (await many).status_code == 200
    assert answered > 10


async def test_a_body_that_grows_too_large_is_refused_without_a_declared_length(client: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b'{"text": "'
        for _ in range(48):
            yield b"a" * 65536
        yield b'"}'

    assert refusal(await client.post("/classify", content=chunks(), headers=JSON)) == (413, "too_large")


async def test_a_candidate_may_be_sent_back_as_a_target_as_it_was_written(client: httpx.AsyncClient) -> None:
    answer = await client.post("/fill-mask", json={"text": "今[MASK]", "targets": ["##ay", "OK", "天"]})
    (candidates,) = answer.json()["results"][0]["masks"]
    assert {candidate["token"] for candidate in candidates} == {"##ay", "ok", "天"}


async def test_top_k_beyond_the_candidates_is_refused_unless_it_counts_targets(client: httpx.AsyncClient) -> None:
    body = {"text": "今[MASK]", "top_k": TOP_CANDIDATES}
    assert refusal(await client.post("/fill-mask", json=body)) == (422, "invalid_input")
    assert (await client.post("/fill-mask", json={**body, "targets": ["天"]})).status_code == 200


async def test_a_model_need_not_be_named_unless_several_do_the_task(tmp_path: Path) -> None:
    app, _ = application(tmp_path, {"one": "classify", "two": "classify"})
    async with client_of(app) as client:
        unnamed = await client.post("/classify", json={"text": "今天"})
        assert refusal(unnamed) == (422, "invalid_input")
        assert "one, two" in unnamed.json()["detail"]
        assert (await client.post("/classify", json={"text": "今天", "model": "two"})).json()["model"] == "two"
        assert refusal(await client.post("/fill-mask", json={"text": "[MASK]"})) == (404, "model_not_found")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=()), max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)
fields = st.sampled_from(
    ["inputs", "text", "text_pair", "model", "top_k", "truncation", "priority", "timeout_ms", "targets", "strategy"]
)
likely = st.sampled_from(
    ["今天", "[MASK]", ["今[MASK]", "天"], "reviews", "characters", 3, ["天"], "truncate", {"text": "好"}]
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.dictionaries(fields, json_values | likely, max_size=5) | json_values)
async def test_no_json_value_whatever_is_answered_with_5xx(app: FastAPI, body: object) -> None:
    content = json.dumps(body)  # escapes lone surrogates, as JSON may
    async with client_of(app) as client:
        for endpoint in ("/classify", "/fill-mask"):
            answer = await client.post(endpoint, content=content, headers=JSON)
            assert answer.status_code < 500 or answer.json()["code"] == "deadline_exceeded", answer.text
            if answer.status_code != 200:
                refusal(answer)
