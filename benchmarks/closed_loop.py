"""A closed loop of real bodies: every connection sends one request after the other.

By wrk where it is installed, which takes a fraction of the processor time of a client in Python; by this repository's
own generator otherwise.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.http_load import load

SCRIPT = Path(__file__).with_name("wrk.lua")
# Beyond any latency of a benchmark: wrk counts an answer as lost after two seconds otherwise.
TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Loop:
    """What a closed loop saw: answers of status 200, the time it took, latencies in milliseconds."""

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


@contextmanager
def body_file(bodies: Sequence[bytes]) -> Iterator[Path]:
    """The bodies, one a line, for as long as the block runs; JSON without line breaks."""
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as file:
        file.write(b"\n".join(bodies))
        file.flush()
        yield Path(file.name)


def by_wrk(url: str, endpoint: str, bodies: Path, connections: int, seconds: int) -> Loop:
    """One thread of wrk over a file of bodies; raises RuntimeError for any answer but 200, and for a lost one."""
    command = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"]
    command += ["--timeout", f"{TIMEOUT_SECONDS}s", "--script", str(SCRIPT), f"{url}{endpoint}", "--", str(bodies)]
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(f"wrk failed: {ended.stderr.strip() or ended.stdout.strip()}")
    return parsed(ended.stdout)


def parsed(output: str) -> Loop:
    """What wrk.lua printed; raises RuntimeError for any answer that is not 200, and for a lost one."""
    told = json.loads(output.rstrip().rpartition("\n")[2])
    if told["refused"] or told["lost"]:
        raise RuntimeError(
            f"{told['refused']} answers were not of status 200 and {told['lost']} were lost, "
            f"of {told['requests']} requests."
        )
    return Loop(told["requests"], told["seconds"], told["p50"], told["p99"])


def by_python(url: str, endpoint: str, bodies: Sequence[bytes], connections: int, seconds: float) -> Loop:
    """The same with the generator of `benchmarks.http_load`; raises RuntimeError likewise."""
    done = asyncio.run(load(url, endpoint, bodies, connections, seconds))
    number = len(done.latencies)
    return Loop(number, number / done.rate, done.percentile(50), done.percentile(99))
