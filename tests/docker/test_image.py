"""The CPU image in a container without privileges, in which only /tmp is writable."""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.docker.dockerfiles import ROOT

IMAGE = os.environ.get("IMAGE", "")
ENGINE = shutil.which("podman") or shutil.which("docker") or ""
SECONDS = 120
CONFINED = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
PROBE = ["python", "/app/healthcheck.py"]
ASK = """
import json, os, sys, urllib.request
path, body = sys.argv[1:]
url = f"http://127.0.0.1:{os.environ['ERNIE_PORT']}{path}"
request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
print(urllib.request.urlopen(request, timeout=60).read().decode())
"""

pytestmark = [
    pytest.mark.skipif(not ENGINE, reason="needs podman or docker, and neither is on PATH"),
    pytest.mark.skipif(not IMAGE, reason="IMAGE does not name an image; docker/README.md says how to build one"),
]


def engine(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ENGINE, *arguments], capture_output=True, text=True)


def output(*arguments: str) -> str:
    done = engine(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def container() -> Iterator[str]:
    """The name of a healthy container that serves the models of this repository; it must exit with status 0."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    given = ["--env", f"ERNIE_PORT={port}", "--volume", f"{ROOT / 'models'}:/models:ro"]
    name = output("run", "--detach", *CONFINED, *given, IMAGE).strip()
    try:
        deadline = time.monotonic() + SECONDS
        while engine("exec", name, *PROBE).returncode != 0:
            running = output("inspect", "--format", "{{.State.Running}}", name).strip() == "true"
            assert running, output("logs", name)
            assert time.monotonic() < deadline, output("logs", name)
            time.sleep(0.2)
        yield name
        output("stop", "--time", "60", name)
        assert output("inspect", "--format", "{{.State.ExitCode}}", name).strip() == "0"
    finally:
        engine("rm", "--force", name)


def ask(container: str, path: str, **body: object) -> dict:
    answer: dict = json.loads(output("exec", container, "python", "-c", ASK, path, json.dumps(body)))
    return answer


def test_both_endpoints_answer(container: str) -> None:
    classified = ask(container, "/classify", inputs="质量太差了，非常失望。")
    assert classified["results"][0]["labels"][0]["label"] == "negative"
    filled = ask(container, "/fill-mask", inputs="他把钱存进了[MASK]行。")
    assert filled["results"][0]["masks"][0][0]["token"] == "银"


def test_it_runs_as_an_unprivileged_user_without_capabilities(container: str) -> None:
    assert output("exec", container, "id", "-u").strip() == "10001"
    status = output("exec", container, "cat", "/proc/1/status")
    rights = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
    assert int(rights["CapEff"], 16) == 0
    assert rights["NoNewPrivs"] == "1"
    assert rights["Name"] == "ernie-serve"


def engines(container: str) -> set[str]:
    """The process numbers of the engines, without the shell that runs the search."""
    found = output("exec", container, "sh", "-c", "grep -l 'service[.]engine' /proc/[0-9]*/cmdline; true")
    return {path.split("/")[2] for path in found.splitlines()}


def test_killed_engines_are_replaced_and_leave_no_zombies(container: str) -> None:
    killed = engines(container)
    assert len(killed) == 2
    output("exec", container, "sh", "-c", f"kill -KILL {' '.join(killed)}")
    deadline = time.monotonic() + SECONDS
    while len(engines(container) - killed) < 2 or engine("exec", container, *PROBE).returncode != 0:
        assert time.monotonic() < deadline, output("logs", container)
        time.sleep(0.2)
    assert "Z (zombie)" not in output("exec", container, "sh", "-c", "cat /proc/[0-9]*/status 2>/dev/null; true")


def test_it_has_no_installer_no_compiler_and_no_training(container: str) -> None:
    for tool in ("pip", "uv", "cc", "g++", "cmake", "ernie-train"):
        assert engine("exec", container, "sh", "-c", f"command -v {tool}").returncode != 0, tool
    for module in ("pip", "paddle", "paddlenlp", "training"):
        assert engine("exec", container, "python", "-c", f"import {module}").returncode != 0, module


def test_the_embedded_models_match_their_hashes() -> None:
    assert "sentiment" in output(
        "run", "--rm", *CONFINED, "--entrypoint", "ernie-build", IMAGE, "verify", "/app/models"
    )
