"""Heads that are too large, too slow or not valid, and offers of other protocols, over real sockets."""

import asyncio
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.service.api.connection.sockets import BODY, connected, request, told
from tests.service.api.connection.test_answers import served

CHUNKED = request().replace(b"Content-Length: %d" % len(BODY), b"Transfer-Encoding: chunked")[: -len(BODY)]
TOO_LARGE = {
    "one long field": request()[: -len(BODY) - 2] + b"X: " + b"a" * 70_000 + b"\r\n\r\n",
    "one field without an end": request()[: -len(BODY) - 2] + b"X: " + b"a" * 10_000_000,
    "a name without an end": request()[: -len(BODY) - 2] + b"a" * 10_000_000,
    "a long target": request("/classify?" + "a" * 70_000),
    "a target without an end": b"GET /" + b"a" * 10_000_000,
    "many fields": request()[: -len(BODY) - 2] + b"X: a\r\n" * 101 + b"\r\n",
    "fields without an end": request()[: -len(BODY) - 2] + b"X: a\r\n" * 1_000_000,
    "many trailers": CHUNKED + b"%x\r\n%s\r\n0\r\n" % (len(BODY), BODY) + b"X: a\r\n" * 101 + b"\r\n",
    "a long trailer": CHUNKED + b"0\r\nX: " + b"a" * 10_000_000,
    "trailers without an end": CHUNKED + b"0\r\n" + b"X: a\r\n" * 1_000_000,
    "an extension without an end": CHUNKED + b"1;x=" + b"a" * 10_000_000,
}


@pytest.mark.parametrize("name", TOO_LARGE)
async def test_a_head_or_trailers_that_are_too_large_are_answered_431_while_they_arrive(
    tmp_path: Path, name: str
) -> None:
    async with served(tmp_path) as service, connected(service.port) as streams:
        answers = await asyncio.wait_for(told(streams, TOO_LARGE[name], 2), 20)
        metrics = await service.metrics()
    assert [(each.status, each.headers["connection"]) for each in answers] == [(431, "close")]
    assert json.loads(answers[0].body)["code"] == "head_too_large"
    assert answers[0].headers["content-type"] == "application/problem+json"
    assert len(answers[0].headers["x-request-id"]) == 32
    assert 'ernie_requests_total{code="431",endpoint="",model=""} 1.0' in metrics
    assert 'ernie_request_failures_total{reason="head_too_large"} 1.0' in metrics


@pytest.mark.parametrize("size", [1, 1000])
async def test_a_head_within_the_limits_is_accepted_however_it_is_cut(tmp_path: Path, size: int) -> None:
    sent = request(X_Long="a" * (60 * size), Expect="nothing")[: -len(BODY) - 2] + b"X: a\r\n" * 90 + b"\r\n" + BODY
    async with served(tmp_path) as service, connected(service.port) as streams:
        for start in range(0, len(sent) - 1, size):
            streams[1].write(sent[start : min(start + size, len(sent) - 1)])
            await streams[1].drain()
            if start % (5 * size) == 0:
                await asyncio.sleep(0)
        assert [each.status for each in await told(streams, sent[-1:])] == [200]


async def test_the_limits_of_heads_can_be_set(tmp_path: Path) -> None:
    async with served(tmp_path, max_head_bytes=1024, max_head_fields=4) as service:
        for more in ({"A": "a" * 1024}, {"A": "1", "B": "2"}):
            async with connected(service.port) as streams:
                assert [each.status for each in await told(streams, request(**more), 2)] == [431]
        async with connected(service.port) as streams:
            assert [each.status for each in await told(streams, request(A="a" * 800))] == [200]
        async with connected(service.port) as streams:
            sent = request(A="a" * 10_000)
            streams[1].write(sent[: -len(BODY) - 10])
            await service.metrics()  # now the first piece of the head has arrived
            assert [each.status for each in await told(streams, sent[-len(BODY) - 10 :], 2)] == [431]


async def test_trailers_do_not_change_the_head_of_a_request_that_waits(tmp_path: Path) -> None:
    async with served(tmp_path, api_keys="good") as service, connected(service.port) as streams:
        engine = service.engines["reviews"]
        engine.hold.clear()
        second = CHUNKED + b"%x\r\n%s\r\n0\r\nAuthorization: Bearer good\r\n\r\n" % (len(BODY), BODY)
        asked = asyncio.create_task(told(streams, request(Authorization="Bearer good") + second, 2))
        await engine.taken.wait()
        engine.hold.set()
        assert [each.status for each in await asked] == [200, 401]


@pytest.mark.parametrize("after", [b"", request()])
async def test_a_head_that_does_not_arrive_in_time_is_answered_408(tmp_path: Path, after: bytes) -> None:
    async with served(tmp_path, head_seconds=0.05) as service, connected(service.port) as streams:
        answers = await told(streams, after + b"POST /classify HTTP/1.1\r\nX-Request-ID: abc\r\nHo", 3)
        metrics = await service.metrics()
    assert [each.status for each in answers] == [*([200] if after else []), 408]
    assert (answers[-1].headers["x-request-id"], answers[-1].headers["connection"]) == ("abc", "close")
    assert 'ernie_request_failures_total{reason="head_timeout"} 1.0' in metrics


HOST = b"Host: service\r\n"
INVALID = {
    "0.9": b"POST /classify\r\n\r\n",
    "2.0": request(version="2.0"),
    "1.2": request(version="1.2"),
    "3.0": request(version="3.0"),
    "prior knowledge of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no host": request().replace(HOST, b""),
    "two hosts": request().replace(HOST, HOST + HOST),
    "two other hosts": request().replace(HOST, b"host: a\r\n" + HOST),
    "two hosts in 1.0": request(version="1.0").replace(HOST, HOST + HOST),
    "no host for a probe": b"GET /health/live HTTP/1.1\r\n\r\n",
    "two hosts for a probe": b"GET /health/live HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
    "another version for a probe": b"GET /health/live HTTP/2.0\r\n" + HOST + b"\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("name", INVALID)
async def test_a_head_that_is_not_valid_is_answered_400_with_one_sentence(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(tmp_path) as service, connected(service.port) as streams:
        answers = await told(streams, INVALID[name] + request(), 2)
        metrics = await service.metrics()
    assert [(each.status, each.headers["connection"]) for each in answers] == [(400, "close")]
    document = json.loads(answers[0].body)
    assert document["code"] == "invalid_request"
    assert document["detail"].endswith(".")
    assert document["request_id"] == answers[0].headers["x-request-id"]
    if "probe" not in name:
        assert 'ernie_request_failures_total{reason="invalid_request"} 1.0' in metrics
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("name", [each for each in INVALID if "host" in each or each == "2.0"])
async def test_on_plain_uvicorn_the_head_is_judged_alike(tmp_path: Path, name: str) -> None:
    async with served(tmp_path, plain=True) as service, connected(service.port) as streams:
        (answer,) = await told(streams, INVALID[name], 1)
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert json.loads(answer.body)["code"] == "invalid_request"


async def test_http_1_0_needs_no_host(tmp_path: Path) -> None:
    async with served(tmp_path) as service, connected(service.port) as streams:
        assert [each.status for each in await told(streams, request(version="1.0").replace(HOST, b""))] == [200]


async def test_what_is_broken_does_not_overtake_the_answers_of_earlier_requests(tmp_path: Path) -> None:
    async with served(tmp_path) as service, connected(service.port) as streams:
        engine = service.engines["reviews"]
        engine.hold.clear()
        asked = asyncio.create_task(told(streams, request() * 2 + CHUNKED + b"no number\r\n", 4))
        await engine.taken.wait()
        engine.hold.set()
        assert [each.status for each in await asked] == [200, 200, 400]


async def test_an_error_in_a_callback_of_the_parser_is_logged_and_counted_as_500(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("of no matter")

    async with served(tmp_path) as service:
        async with connected(service.port) as streams:
            with monkeypatch.context() as patched:
                patched.setattr("service.api.connection.check_target", broken)
                (answer,) = await told(streams, request(X_Request_ID="abc"), 2)
        metrics = await service.metrics()
    assert (answer.status, answer.headers["x-request-id"]) == (500, "abc")
    assert 'ernie_request_failures_total{reason="internal"} 1.0' in metrics
    assert [record.message for record in caplog.records if record.exc_info] == ["a callback of the parser failed"]


OFFER = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAEAAEAAAAIAAAAA"}


@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_an_offer_of_another_protocol_is_ignored(tmp_path: Path, size: int) -> None:
    closing = request(**{**OFFER, "Connection": "close, Upgrade"})
    sent = request(**OFFER, X_Request_ID="1") + request(X_Request_ID="2") + closing
    async with served(tmp_path) as service, connected(service.port) as streams:
        asked = asyncio.create_task(told(streams, b"", 4))
        for start in range(0, len(sent), size):
            streams[1].write(sent[start : start + size])
            await asyncio.sleep(0)
        answers = await asked
    assert [each.status for each in answers] == [200] * 3
    assert [each.headers.get("connection") for each in answers] == [None, None, "close"]


async def test_connect_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as service, connected(service.port) as streams:
        answers = await told(streams, b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 2)
    assert [each.status for each in answers] == [405]


async def run_tool(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    return output.decode()


async def test_curl_with_http2_gets_its_answer(tmp_path: Path) -> None:
    if not shutil.which("curl") or "HTTP2" not in await run_tool("curl", "--version"):
        pytest.skip("curl with HTTP/2 is not installed; apt-get install curl installs it")
    async with served(tmp_path) as service:
        url = f"http://127.0.0.1:{service.port}/classify"
        command = ("curl", "-s", "--http2", "-H", "Content-Type: application/json", "-d", BODY.decode(), url)
        assert json.loads(await run_tool(*command))["model"] == "reviews"


async def test_the_http_client_of_java_gets_its_answer(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if not shutil.which("java") or not shutil.which("javac"):
        pytest.skip("java and javac are not installed; apt-get install default-jdk-headless installs them")
    classes = Path(str(request.config.cache.mkdir("java")))  # type: ignore[union-attr]
    source = Path(__file__).with_name("Post.java")
    if not (classes / "Post.class").exists():
        assert await run_tool("javac", "-d", str(classes), str(source)) == ""
    async with served(tmp_path) as service:
        url = f"http://127.0.0.1:{service.port}/classify"
        output = await run_tool("java", "-Xshare:auto", "-cp", str(classes), "Post", url, BODY.decode())
    assert output.split() == ["200", "200", "200"]
