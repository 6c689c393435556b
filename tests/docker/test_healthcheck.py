"""The HEALTHCHECK probe against the real service."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.docker.dockerfiles import DOCKER, ROOT
from tests.service.conftest import Service, serving

SECONDS = 60


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A ready service. It reports an engine as hanging after a third of --hang-seconds, which is five seconds."""
    with serving(ROOT / "models", "--probe-seconds", "0.2", "--hang-seconds", "15") as running:
        running.wait_ready()
        yield running


def probe(port: str, host: str = "127.0.0.1", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(DOCKER / "healthcheck.py")],
        env={**os.environ, "ERNIE_HOST": host, "ERNIE_PORT": port, **environment},
        capture_output=True,
        text=True,
    )


def port_of(service: Service) -> str:
    return service.url.rsplit(":", 1)[1]


# The image sets the host 0.0.0.0. The probe must not use a proxy of the environment.
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_ready_service_is_healthy(service: Service, host: str) -> None:
    done = probe(port_of(service), host, http_proxy="http://127.0.0.1:9")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_service_with_a_hanging_engine_is_unhealthy(service: Service) -> None:
    engine = service.engines()["sentiment"]
    deadline = time.monotonic() + SECONDS
    engine.suspend()
    while (done := probe(port_of(service))).returncode == 0 and time.monotonic() < deadline:
        pass
    assert (done.returncode, done.stderr) == (1, "not ready: status 503\n")
    engine.resume()
    while (done := probe(port_of(service))).returncode != 0 and time.monotonic() < deadline:
        pass
    assert done.returncode == 0


def test_a_port_without_a_listener_is_unhealthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = str(closed.getsockname()[1])
    done = probe(port)
    assert done.returncode == 1
    assert done.stderr.startswith(f"no answer from 127.0.0.1:{port}: ")
