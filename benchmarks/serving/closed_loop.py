"""A closed loop: every connection sends one request after the other.

By wrk where it is installed, which takes a fraction of the processor time of a client in Python; by a client in Python
otherwise, or where an open loop of the same client is compared with it.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rounds import percentile
from benchmarks.serving.connection import JSON, HttpConnection, post

SCRIPT = Path(__file__).with_name("wrk.lua")
# Longer than any latency of a benchmark: by default wrk counts an answer as lost after two seconds.
TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Load:
    """The requests that a loop sends in turn."""

    url: str
    endpoint: str
    bodies: Sequence[bytes]
    content_type: str = JSON

    def requests(self) -> list[bytes]:
        """Their bytes."""
        return [post(self.url, self.endpoint, body, content_type=self.content_type) for body in self.bodies]


@dataclass(frozen=True)
class Loop:
    """Answers of status 200, the time they took together, latencies in milliseconds."""

    requests: int
    seconds: float
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


def has_wrk() -> bool:
    """Whether wrk is on the PATH."""
    return shutil.which("wrk") is not None


def need_wrk() -> None:
    """Raises SystemExit where wrk is missing."""
    if not has_wrk():
        raise SystemExit("wrk is not installed; on Debian and Ubuntu: apt-get install wrk.")


def closed_loop(load: Load, connections: int, seconds: float) -> Loop:
    """Raises RuntimeError for a status other than 200, and for a lost answer."""
    return by_wrk(load, connections, seconds) if has_wrk() else by_python(load, connections, seconds)


def by_wrk(load: Load, connections: int, seconds: float) -> Loop:
    """One thread of wrk, for whole seconds."""
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as file:
        file.write(b"\n".join(load.bodies))
        file.flush()
        command = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{round(seconds)}s"]
        command += ["--timeout", f"{TIMEOUT_SECONDS}s", "--script", str(SCRIPT), f"{load.url}{load.endpoint}"]
        ended = subprocess.run([*command, "--", file.name, load.content_type], capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(f"wrk failed: {ended.stderr.strip() or ended.stdout.strip()}")
    return parsed(ended.stdout)


def parsed(output: str) -> Loop:
    """What wrk.lua printed; raises RuntimeError for a status other than 200, and for a lost answer."""
    found = json.loads(output.rstrip().rpartition("\n")[2])
    if found["refused"] or found["lost"]:
        raise RuntimeError(
            f"{found['refused']} answers were not of status 200 and {found['lost']} were lost, "
            f"of {found['requests']} requests."
        )
    return Loop(found["requests"], found["seconds"], found["p50"], found["p99"])


def by_python(load: Load, connections: int, seconds: float) -> Loop:
    """A client in Python."""
    return asyncio.run(_by_python(load, connections, seconds))


async def _by_python(load: Load, connections: int, seconds: float) -> Loop:
    requests = load.requests()
    latencies: list[float] = []
    begun = time.perf_counter()
    end = begun + seconds

    async def send(number: int) -> None:
        connection = HttpConnection(load.url)
        while (sent := time.perf_counter()) < end:
            answer = await connection.ask(requests[number % len(requests)])
            if answer.status != 200:
                raise RuntimeError(answer.body.decode())
            latencies.append((time.perf_counter() - sent) * 1000)
            number += connections
        connection.close()

    await asyncio.gather(*(send(index) for index in range(connections)))
    taken = time.perf_counter() - begun
    return Loop(len(latencies), taken, percentile(latencies, 50), percentile(latencies, 99))
