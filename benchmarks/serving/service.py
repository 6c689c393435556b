"""`ernie-serve` as a separate process, of this checkout or of another one."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

READY_SECONDS = 300.0
STOP_SECONDS = 60.0
OWN = (sys.executable, "-m", "service.cli")
"""The command of this checkout."""
API_PROCESS = re.compile(r"\bservice\.(?:\w+\.)*worker\b")
ENGINE = re.compile(r"\bservice\.engine\b")
WORKER = "worker"


class Service:
    """A running service; its log goes to a file."""

    def __init__(
        self,
        models: Path,
        *flags: str,
        log: Path,
        command: tuple[str, ...] = OWN,
        cwd: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Starts it on a free port. `settings` are environment variables; `flags` win."""
        self._log = log
        self._url = ""
        flags = ("--models", str(models.resolve()), "--host", "127.0.0.1", "--port", "0", *flags)
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [*command, *flags], cwd=cwd, stderr=file, env={**os.environ, **(settings or {})}
            )

    @property
    def url(self) -> str:
        """Where it listens; empty before it does."""
        if not self._url and (found := re.search(r"listening on (http://[^\s,]+)", self.log())):
            self._url = found.group(1)
        return self._url

    def log(self) -> str:
        """All it has logged."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def errors(self) -> list[str]:
        """Lines of its log with the level ERROR or above."""
        return [line for line in self.log().splitlines() if " ERROR " in line or " CRITICAL " in line]

    def is_ready(self) -> bool:
        """What /health/ready answers."""
        with contextlib.suppress(OSError):
            return bool(self.url) and urllib.request.urlopen(f"{self.url}/health/ready", timeout=5).status == 200
        return False

    def wait_ready(self) -> None:
        """Raises SystemExit with its log where it is not ready in time."""
        deadline = time.monotonic() + READY_SECONDS
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the service did not become ready:\n{self.log()[-4000:]}")
            time.sleep(0.05)

    def children(self) -> dict[str, list[psutil.Process]]:
        """API processes as `worker`, engines by the names of their models; the first in each list is the oldest."""
        found: dict[str, list[psutil.Process]] = {}
        for child in sorted(psutil.Process(self.process.pid).children(recursive=True), key=lambda one: one.pid):
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended in the meantime
                if name := process_name(child.cmdline()):
                    found.setdefault(name, []).append(child)
        return found

    def memory(self) -> dict[str, list[int]]:
        """Resident bytes of the parent, the API processes and the engines."""
        found = {"parent": [psutil.Process(self.process.pid).memory_info().rss]}
        for name, processes in self.children().items():
            for each in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    found.setdefault(name, []).append(each.memory_info().rss)
        return found

    def stop(self) -> int:
        """SIGTERM, and SIGKILL where it does not end; returns the exit status."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def process_name(command: list[str]) -> str | None:
    """`worker` for an API process, the name of its model for an engine, None for another process."""
    line = " ".join(command)
    if API_PROCESS.search(line):
        return WORKER
    if ENGINE.search(line):
        bundle = next((Path(word) for word in command if (Path(word) / "bundle.json").is_file()), None)
        return bundle.parent.name if bundle else None
    return None


def cpu_seconds(process: psutil.Process) -> float:
    """CPU seconds of a process so far, in user and system mode."""
    return float(sum(process.cpu_times()[:2]))


@contextlib.contextmanager
def serving(
    models: Path,
    *flags: str,
    command: tuple[str, ...] = OWN,
    cwd: Path | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Service]:
    """A ready service, ended with SIGTERM after the block; errors that it logged are printed."""
    with tempfile.TemporaryDirectory() as folder:
        service = Service(models, *flags, log=Path(folder) / "log", command=command, cwd=cwd, settings=settings)
        try:
            service.wait_ready()
            yield service
        finally:
            service.stop()
            for line in service.errors():
                print(f"service: {line}", file=sys.stderr)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
