"""Starts `ernie-serve` and sends it the first requests of a user."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

READY_SECONDS = 180
PROBE_SECONDS = 5
SHADOWS = ("service/__init__.py", "native/__init__.py", "uvloop.py", "logging.py")
_LISTENING = re.compile(r"listening on (http://\S+?),")
# Requests to 127.0.0.1 must not go through a proxy of the machine.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ServingError(RuntimeError):
    """The service did not work; the message is one sentence and the end of its log."""


def ask_service(program: Path, models: Path, runtime: str, folder: Path, environment: Mapping[str, str]) -> set[str]:
    """Starts `program` with the embedded `models`, requests both endpoints and the page, and stops it with SIGTERM.

    It is started in a folder whose modules have the names of modules that the service imports. Returns the set of
    versions of ernie-zh that the service reports. Writes its log to `folder`. Raises ServingError if the service does
    not start, answer correctly or stop with status 0.
    """
    log = folder / f"serve-{runtime}.log"
    command = [str(program), "--models", str(models), "--port", "0", "--runtime", runtime]
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=_shadows(folder), env=dict(environment), stdout=stream, stderr=stream)
    try:
        url = _wait_until_ready(process, log)
        _check_endpoints(url)
        versions = {_get(f"{url}/openapi.json")["info"]["version"], _get(f"{url}/v2")["version"]}
        process.send_signal(signal.SIGTERM)
        if status := process.wait(timeout=60):
            raise ServingError(f"ernie-serve ended with status {status} after SIGTERM")
        return versions
    except (ServingError, OSError, subprocess.TimeoutExpired) as error:
        raise ServingError(f"--runtime {runtime}: {error}; its log ends with:\n{_end(log)}") from error
    finally:
        process.kill()
        process.wait()


def _shadows(folder: Path) -> Path:
    """A folder in `folder` with modules that must not be imported."""
    for name in SHADOWS:
        path = folder / "shadows" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('raise SystemExit("a module of the current folder was imported")\n', encoding="utf-8")
    return folder / "shadows"


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServingError(f"ernie-serve ended with status {process.returncode}")
        found = _LISTENING.search(log.read_text(encoding="utf-8"))
        if found and _is_ready(found[1]):
            return found[1]
        time.sleep(0.1)
    raise ServingError(f"ernie-serve was not ready within {READY_SECONDS} s")


def _is_ready(url: str) -> bool:
    try:
        with _OPENER.open(f"{url}/health/ready", timeout=PROBE_SECONDS):
            return True
    except urllib.error.HTTPError as error:
        if error.code == 503:
            return False
        raise
    except OSError:  # the parent process listens before the API processes have started
        return False


def _check_endpoints(url: str) -> None:
    review = _post(f"{url}/classify", {"inputs": ["房间很干净，服务也很周到。", "质量太差了，非常失望。"]})
    labels = [result["labels"][0]["label"] for result in review["results"]]
    if labels != ["positive", "negative"]:
        raise ServingError(f"/classify labels a good and a bad review as {' and '.join(labels)}")
    filled = _post(f"{url}/fill-mask", {"inputs": "他把钱存进了[MASK]行。", "top_k": 5})
    candidates = [candidate["token"] for candidate in filled["results"][0]["masks"][0]]
    if len(candidates) != 5 or "银" not in candidates:
        raise ServingError(f"/fill-mask must return 5 candidates, one of them 银, but returns {candidates}")
    with _OPENER.open(f"{url}/", timeout=30) as page:
        if b"<html" not in page.read():
            raise ServingError("GET / returns no HTML page")


def _post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    return _get(request)


def _get(request: urllib.request.Request | str) -> Any:
    with _OPENER.open(request, timeout=30) as response:
        return json.load(response)


def _end(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
