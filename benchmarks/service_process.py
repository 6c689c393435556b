"""A real service of this repository, as a process of its own."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil


@dataclass(frozen=True)
class RunningService:
    """A service that has been ready."""

    url: str
    process: subprocess.Popen[str]

    def children(self) -> dict[str, list[psutil.Process]]:
        """Its API processes as `worker`, and its engines by the names of their models."""
        found: dict[str, list[psutil.Process]] = {}
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # one that ends meanwhile is none
                if name := _name(child.cmdline()):
                    found.setdefault(name, []).append(child)
        return found

    def is_ready(self) -> bool:
        """What /health/ready says."""
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(f"{self.url}/health/ready").status == 200
        return False


def _show_errors(lines: IO[str]) -> None:
    """Empties the pipe, or the service would block on a full one, and shows what went wrong in it."""
    for line in lines:
        if " ERROR " in line or " CRITICAL " in line:
            sys.stderr.write(f"service: {line}")


def _name(command: list[str]) -> str | None:
    if "service.worker" in command:
        return "worker"
    if "service.engine" in command:
        bundle = Path(command[command.index("--bundle") + 1])
        return bundle.parent.name
    return None


@contextlib.contextmanager
def serving(models: Path, *flags: str) -> Iterator[RunningService]:
    """A ready service on a free port, ended with SIGTERM after the block."""
    command = [sys.executable, "-m", "service.cli", "--models", str(models), "--port", "0", *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r"listening on (http://\S+),", line):
                break
        else:
            raise SystemExit("".join(lines))
        threading.Thread(target=_show_errors, args=(process.stderr,), daemon=True).start()
        service = RunningService(found.group(1), process)
        while not service.is_ready():
            if process.poll() is not None:
                raise SystemExit("the service ended before it was ready.")
            time.sleep(0.1)
        yield service
    finally:
        process.terminate()
        process.wait()
