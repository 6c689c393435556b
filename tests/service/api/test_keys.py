"""API keys, other sites' pages, logs and spans, over the real application with stand-in engines."""

import asyncio
import gc
import json
import logging
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service.api.app import create_app
from service.logs import JsonFormatter, TextFormatter
from service.parent.key_file import KeysError, read_keys
from service.settings import Settings
from tests.service.conftest import serving
from tests.service.stand_in import application, client_of


async def in_flight(client: httpx.AsyncClient, count: int) -> None:
    """Returns when the service counts that many requests to the reviews as let in and not yet answered."""
    while f'ernie_inflight_requests{{model="reviews"}} {count}.0\n' not in (await client.get("/metrics")).text:
        await asyncio.sleep(0.01)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def test_with_keys_work_needs_one_and_probes_need_none(tmp_path: Path) -> None:
    app, _ = application(tmp_path, {"reviews": "classify"}, api_keys="first, second")
    async with client_of(app) as client:
        for headers in ({}, bearer("third"), bearer(""), {"Authorization": "Basic first"}, bearer("first, second")):
            answer = await client.post("/classify", json={"text": "今天"}, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"
        assert (await client.get("/models")).status_code == 401
        for key in ("first", "second"):
            assert (await client.post("/classify", json={"text": "今天"}, headers=bearer(key))).status_code == 200
        for path in ("/health/live", "/health/ready", "/metrics", "/docs", "/openapi.json"):
            assert (await client.get(path)).status_code == 200
        assert 'ernie_request_failures_total{reason="unauthorized"} 5.0' in (await client.get("/metrics")).text


@pytest.mark.parametrize("origins", ["https://shop.example", "*"])
async def test_every_answer_says_that_it_depends_on_the_origin(tmp_path: Path, origins: str) -> None:
    app, _ = application(tmp_path, {"reviews": "classify"}, api_keys="good", cors_origins=origins)
    preflight = {"Access-Control-Request-Method": "POST"}
    requests = [
        ("POST", "/classify", bearer("good"), 200),
        ("POST", "/classify", bearer("bad"), 401),
        ("POST", "/classify", {**bearer("good"), "Content-Encoding": "gzip"}, 415),
        ("GET", "/classify", bearer("good"), 405),
        ("GET", "/nothing", bearer("good"), 404),
        ("GET", "/models", {}, 401),
        ("GET", "/models", bearer("good"), 200),
        ("GET", "/health/live", {}, 200),
        ("OPTIONS", "/classify", preflight, 200),
    ]
    async with client_of(app) as client:
        for origin in ({}, {"Origin": "https://shop.example"}, {"Origin": "https://other.example"}):
            for method, path, headers, status in requests:
                if method == "OPTIONS" and not origin:
                    continue  # not a preflight
                body = {"text": "今天"} if method == "POST" else None
                answer = await client.request(method, path, json=body, headers={**headers, **origin})
                refused = method == "OPTIONS" and origins != "*" and "other" in origin["Origin"]
                assert answer.status_code == (400 if refused else status)
                assert "Origin" in answer.headers["vary"].split(", ")


def test_keys_come_from_a_file_too_and_an_empty_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# of the shop\nfirst\n\n  second  \n", encoding="utf-8")
    assert len(read_keys(Settings(api_keys="third,first", api_keys_file=file))) == 3
    file.write_text("first\n", encoding="utf-8-sig")  # as an editor on Windows writes it
    assert read_keys(Settings(api_keys_file=file)) == read_keys(Settings(api_keys="first"))
    file.write_text("# none\n", encoding="utf-8-sig")
    with pytest.raises(KeysError, match="has no API key"):
        read_keys(Settings(api_keys_file=file))
    with pytest.raises(KeysError, match="cannot be read"):
        read_keys(Settings(api_keys_file=tmp_path / "absent"))


@pytest.mark.parametrize("given", ["", ",", " , "])
def test_keys_that_are_given_and_are_none_are_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    assert read_keys(Settings()) == []
    monkeypatch.setenv("ERNIE_API_KEYS", given)
    with pytest.raises(KeysError, match="has no API key"):
        read_keys(Settings())


async def test_keys_are_read_again_on_reload(tiny_models: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("old", encoding="utf-8")
    with serving(tiny_models, "--api-keys-file", str(file), "--admin") as running:
        running.wait_ready()
        async with httpx.AsyncClient(base_url=running.url, timeout=60) as client:
            assert (await client.post("/admin/reload")).status_code == 401
            file.write_text("", encoding="utf-8")
            refused = (await client.post("/admin/reload", headers=bearer("old"))).json()["refused"]
            assert "has no API key" in refused["API keys"]
            file.write_text("new", encoding="utf-8")
            assert (await client.post("/admin/reload", headers=bearer("old"))).status_code == 200
            for key, status in (("old", 401), ("new", 200)):
                answer = await client.post("/classify", json={"inputs": "好"}, headers=bearer(key))
                assert answer.status_code == status
    assert not any("old" in line or "new " in line for line in running.log)


async def test_a_withdrawn_key_is_no_good_at_once_however_long_a_reload_takes(
    tiny_models: Path, tmp_path: Path
) -> None:
    models, file = Path(shutil.copytree(tiny_models, tmp_path / "models")), tmp_path / "keys"
    file.write_text("old", encoding="utf-8")
    flags = ("--api-keys-file", str(file), "--admin", "--hang-seconds", "600")
    with serving(models, *flags) as running:
        running.wait_ready()
        engine = running.engines()["reviews"]
        async with httpx.AsyncClient(base_url=running.url, timeout=60, headers=bearer("old")) as client:
            # A reload that takes the model away waits for the request that its engine has.
            engine.suspend()
            held = asyncio.create_task(client.post("/classify", json={"inputs": "好"}))
            await in_flight(client, 1)
            shutil.rmtree(models / "reviews")
            reload = asyncio.create_task(client.post("/admin/reload"))
            while (await client.get("/models/reviews")).status_code == 200:
                await asyncio.sleep(0.01)
            file.write_text("new", encoding="utf-8")
            running.process.send_signal(signal.SIGHUP)
            while (await client.get("/models")).status_code == 200:
                await asyncio.sleep(0.01)
            assert (await client.get("/models", headers=bearer("new"))).status_code == 200
            assert not reload.done()
            engine.resume()
            assert (await held).status_code == 200
            assert (await reload).json()["unloaded"] == ["reviews"]
            assert 'ernie_ready{model="reviews"} 0.0' in (await client.get("/metrics")).text


async def test_pages_of_other_sites_are_refused_unless_they_are_named(tmp_path: Path) -> None:
    preflight = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    for origins, allowed in (("", None), ("https://shop.example", "https://shop.example"), ("https://x.example", None)):
        name = origins.removeprefix("https://") or "none"
        app, _ = application(tmp_path / name, {"reviews": "classify"}, cors_origins=origins)
        async with client_of(app) as client:
            answer = await client.options("/classify", headers=preflight)
            assert answer.headers.get("access-control-allow-origin") == allowed
            answer = await client.post("/classify", json={"text": "今天"}, headers={"Origin": "https://shop.example"})
            assert answer.headers.get("access-control-allow-origin") == allowed


async def test_a_failure_is_logged_with_its_stack_but_not_with_its_message_that_may_repeat_what_was_sent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app, engines = application(tmp_path, {"reviews": "classify"})
    engines["reviews"].failure = RuntimeError("cannot run 今天气")
    engines["reviews"].failure.__cause__ = ValueError("because of 今天气")
    async with client_of(app) as client:
        answer = await client.post("/classify", json={"text": "今天气"}, headers={"X-Request-ID": "abc"})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    (record,) = [record for record in caplog.records if record.exc_info]
    for level, shown in ((logging.INFO, False), (logging.DEBUG, True)):
        with caplog.at_level(level):
            for formatter in (TextFormatter(), JsonFormatter()):
                record.exc_text = None  # where another formatter has kept what it made
                line = formatter.format(record)
                assert "abc" in line
                assert "stand_in.py" in line
                assert line.index("ValueError") < line.index("RuntimeError")
                assert ("今天气" in line) is shown


def raised(error: BaseException, cause: BaseException | None = None) -> Exception:
    """The exception as one that went through a stack."""
    try:
        raise error from cause
    except (RuntimeError, OSError) as caught:
        return caught


def test_what_led_to_a_failure_is_shown_once_even_where_it_goes_in_a_circle() -> None:
    try:
        try:
            raise KeyError("今天气")
        except KeyError:
            int("今天气")
    except ValueError as error:
        line = TextFormatter().formatException((type(error), error, error.__traceback__))
    assert line.index("KeyError") < line.index("ValueError")
    assert "今天气" not in line.replace('raise KeyError("今天气")', "").replace('int("今天气")', "")
    first, second = raised(RuntimeError("今天气")), raised(OSError("今天气"))
    first.__cause__, second.__cause__ = second, first
    line = TextFormatter().formatException((type(first), first, first.__traceback__))
    assert (line.count("RuntimeError"), line.count("OSError")) == (1, 1)


async def test_what_nobody_waited_for_is_logged_without_what_it_says(caplog: pytest.LogCaptureFixture) -> None:
    async def failing() -> None:
        raise RuntimeError("今天气")

    app = create_app(Settings())
    async with app.router.lifespan_context(app):
        task = asyncio.create_task(failing())
        await asyncio.wait([task])
        del task
        gc.collect()
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    record.exc_text = None  # where pytest's formatter has kept what it made
    line = TextFormatter().format(record)
    assert "never retrieved" in line
    assert "RuntimeError" in line
    assert "今天气" not in line.replace('raise RuntimeError("今天气")', "")


async def test_a_logged_request_has_its_id_and_nothing_that_was_sent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app, _ = application(tmp_path, {"reviews": "classify"}, log_requests=True, api_keys="secret-key")
    with caplog.at_level(logging.DEBUG):
        async with client_of(app) as client:
            headers = {**bearer("secret-key"), "X-Request-ID": "abc"}
            await client.post("/classify", json={"text": "今天气"}, headers=headers)
            await client.post("/classify", json={"text": "今天气", "secret": 1}, headers=headers)
            await client.get("/a%0Ab", headers=headers)
    lines = [
        json.loads(JsonFormatter().format(record))
        for record in caplog.records
        if record.name == "service.api.telemetry"
    ]
    assert [(line["request_id"], line["status"], line.get("model")) for line in lines] == [
        ("abc", 200, "reviews"),
        ("abc", 422, None),
        ("abc", 404, None),
    ]
    assert lines[2]["path"] == "/a\\nb"
    written = "".join(JsonFormatter().format(record) for record in caplog.records)
    assert "今天气" not in written
    assert "secret-key" not in written


async def test_every_line_of_a_json_log_is_an_object(tiny_models: Path) -> None:
    with serving(tiny_models, "--log-format", "json", "--log-requests") as running:
        running.wait_ready()
        httpx.post(f"{running.url}/classify", json={"inputs": "好"})
    lines = [json.loads(line) for line in running.log]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    assert [line["status"] for line in lines if line.get("path") == "/classify"] == [200]


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield exporter
    provider.shutdown()


async def test_spans_go_on_from_the_callers_trace_and_hold_no_text(tmp_path: Path, spans: InMemorySpanExporter) -> None:
    app, _ = application(tmp_path, {"reviews": "classify"}, otel=True)
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with client_of(app) as client:
        await client.post("/classify", json={"text": "今天气"}, headers={"traceparent": parent})
        await client.get("/health/live")
    found = {span.name: span for span in spans.get_finished_spans()}
    assert set(found) == {"POST /classify", "tokenize", "queue", "inference"}
    assert {f"{span.context.trace_id:032x}" for span in found.values()} == {"0af7651916cd43dd8448eb211c80319c"}
    request = found.pop("POST /classify")
    assert f"{request.parent.span_id:016x}" == "b7ad6b7169203331"
    assert {span.parent.span_id for span in found.values()} == {request.context.span_id}
    assert found["tokenize"].end_time <= found["queue"].start_time
    assert found["queue"].end_time <= found["inference"].start_time
    assert "今天气" not in "".join(span.to_json() for span in spans.get_finished_spans())
