"""What the rehearsal of a rolling update reads, and which requests count as lost."""

import asyncio
import datetime
import json
import random
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import yaml

from benchmarks.serving.haproxy import PROXIES, RETRIED, SLOTS, proxying
from benchmarks.serving.questions import Question
from benchmarks.serving.replica import BASE, Manifest, Probe, answered
from benchmarks.serving.rolling_update import Traffic

Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def test_a_probe_has_the_defaults_of_kubernetes() -> None:
    assert Probe.read({"httpGet": {"path": "/live"}}) == Probe("/live", period=10, timeout=1, failures=3)
    given = {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 2, "timeoutSeconds": 5}
    assert Probe.read({**given, "failureThreshold": 7}) == Probe("/ready", period=2, timeout=5, failures=7)


def test_the_manifests_are_read_and_not_copied(tmp_path: Path) -> None:
    deployment = yaml.safe_load((BASE / "deployment.yaml").read_text(encoding="utf-8"))
    pod = deployment["spec"]["template"]["spec"]
    pod["terminationGracePeriodSeconds"] = 77
    pod["containers"][0]["readinessProbe"]["periodSeconds"] = 4
    (tmp_path / "deployment.yaml").write_text(yaml.safe_dump(deployment), encoding="utf-8")
    (tmp_path / "settings.env").write_text("ERNIE_DRAIN_DELAY_SECONDS=3\nERNIE_API_KEYS=a=b\n", encoding="utf-8")
    manifest = Manifest.read(tmp_path)
    assert (manifest.grace_seconds, manifest.readiness.period) == (77, 4)
    assert manifest.settings == {"ERNIE_DRAIN_DELAY_SECONDS": "3", "ERNIE_API_KEYS": "a=b"}
    deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"] = 0
    (tmp_path / "deployment.yaml").write_text(yaml.safe_dump(deployment), encoding="utf-8")
    with pytest.raises(SystemExit, match="maxSurge"):
        Manifest.read(tmp_path)


def test_of_a_log_the_answers_of_the_two_endpoints_are_read() -> None:
    lines = [
        {"time": "2026-01-02T03:04:05.678Z", "message": "ready"},
        {"time": "2026-01-02T03:04:06.500Z", "path": "/classify", "status": 200},
        {"time": "2026-01-02T03:04:07.000Z", "path": "/health/ready", "status": 200},
    ]
    moment = datetime.datetime(2026, 1, 2, 3, 4, 6, 500_000, datetime.timezone.utc)
    assert answered("\n".join(map(json.dumps, lines))) == [moment]


def test_a_request_sent_again_is_seen_in_the_log() -> None:
    assert not RETRIED.search("id=roll-1 status=200 state=-- retries=0 server=slot1 ms=3")
    assert RETRIED.search("id=roll-1 status=200 state=-- retries=1 server=slot1 ms=3")
    assert RETRIED.search("id=roll-1 status=200 state=-- retries=+1 server=slot2 ms=3")


async def faults(answer: Answering, check: Callable[[dict], str | None] = lambda found: None) -> set[str | None]:
    """What is wrong with the requests of a load to a server that answers so."""
    over = asyncio.Event()
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        load = Traffic(
            f"http://127.0.0.1:{port}", [Question("a", "m", "/classify", b"{}", check=check)], random.Random(1)
        )
        asyncio.get_running_loop().call_later(0.2, over.set)
        await load.run(100, over)
    assert load.sent
    return {each.fault for each in load.sent}


def saying(status: str, body: str = "{}", own: bool = True) -> Answering:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        name = head.split("x-request-id: ")[1].split("\r\n")[0] if own else "another"
        length = f"Content-Length: {len(body)}\r\nConnection: close"
        writer.write(f"HTTP/1.1 {status}\r\nX-Request-ID: {name}\r\n{length}\r\n\r\n{body}".encode())
        writer.close()

    return answer


async def test_only_its_own_right_answer_of_status_200_is_none_lost() -> None:
    assert await faults(saying("200 OK")) == {None}
    assert await faults(saying("503 Service Unavailable")) == {"status 503"}
    assert await faults(saying("200 OK"), lambda found: "wrong") == {"wrong"}
    assert await faults(saying("200 OK", own=False)) == {"the answer of another"}


async def test_a_connection_that_ends_without_an_answer_is_a_request_lost() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    (fault,) = await faults(hang_up)
    assert fault is not None
    assert fault.startswith("no answer: IncompleteReadError")


@pytest.mark.parametrize("kind", PROXIES)
async def test_each_proxy_sends_requests_to_whom_it_was_told_of_last(kind: str, tmp_path: Path) -> None:
    if shutil.which("haproxy") is None:
        pytest.skip("haproxy is the proxy, and is not on PATH; install it to run this (apt-get install haproxy)")

    class Told:
        terminating = False

        def __init__(self, server: asyncio.Server) -> None:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    with proxying(kind, Manifest.read(BASE), False, tmp_path) as proxy:
        for status in ("201 Created", "202 Accepted"):
            async with await asyncio.start_server(saying(status), "127.0.0.1", 0) as server:
                # One after the other, there may be more of them than it has room for at a time.
                for _ in range(SLOTS + 1):
                    await proxy.route([Told(server)])
                assert await eventually(proxy.url, int(status[:3]))
        assert proxy.retried() == 0


async def eventually(url: str, status: int) -> bool:
    """Whether the answers are of this status after a while."""
    for _ in range(200):
        over = asyncio.Event()
        load = Traffic(url, [Question("a", "m", "/classify", b"{}")], random.Random(1))
        asyncio.get_running_loop().call_later(0.05, over.set)
        await load.run(100, over)
        if load.sent and {each.fault for each in load.sent} == {f"status {status}"}:
            return True
    return False
