"""Bundles, and real services: `ernie-serve` processes on free ports with real FastDeploy engines."""

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
READY_SECONDS = 120


@dataclass
class Service:
    """A running `ernie-serve`."""

    process: subprocess.Popen[str]
    url: str
    log: list[str] = field(default_factory=list)

    def children(self, module: str) -> list[tuple[psutil.Process, list[str]]]:
        """Processes below this one that run `module`, with their command lines."""
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            # One that ends meanwhile is none.
            with contextlib.suppress(psutil.NoSuchProcess):
                command = child.cmdline()
                if any(module in word for word in command):
                    found.append((child, command))
        return found

    def engines(self) -> dict[str, psutil.Process]:
        """Engine processes by the name of their model."""
        return {
            Path(command[command.index("--bundle") + 1]).parent.name: child
            for child, command in self.children("service.engine.__main__")
        }

    def workers(self) -> list[psutil.Process]:
        """API processes."""
        return [child for child, _ in self.children("service.api.worker")]

    def wait_ready(self) -> None:
        """Asks until the service is ready; fails with its log when it is not in time."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health/ready").status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError("the service did not become ready:\n" + "".join(self.log))


def serving(models: Path, *flags: str) -> contextlib.AbstractContextManager[Service]:
    """Starts the service of this checkout on a free port, and ends it with SIGTERM."""
    return started([sys.executable, "-m", "service.cli", "--models", str(models), "--port", "0", *flags], ROOT)


@contextlib.contextmanager
def started(command: list[str], cwd: Path) -> Iterator[Service]:
    """A service by its command, ended with SIGTERM."""
    process = subprocess.Popen(command, cwd=cwd, stderr=subprocess.PIPE, text=True)
    log: list[str] = []
    assert process.stderr is not None
    url = None
    for line in process.stderr:
        log.append(line)
        if found := re.search(r"listening on (http://\S+),", line):
            url = found.group(1)
            break
    if url is None:
        raise AssertionError(f"the service ended with status {process.wait()}:\n" + "".join(log))
    # The pipe must be emptied, or the service blocks on a full one.
    drain = threading.Thread(target=lambda: log.extend(process.stderr or ()), daemon=True)
    drain.start()
    service = Service(process, url, log)
    try:
        yield service
    finally:
        # A test that failed may have left an engine suspended, and that one would not hear of the end.
        for engine in service.engines().values() if process.poll() is None else ():
            engine.resume()
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
        drain.join()


def python_with(module: str) -> str:
    """This Python, or, where it lacks `module`, that of the reference environment (REFERENCE_PYTHON, or `.venv`)."""
    reference = os.environ.get("REFERENCE_PYTHON", str(ROOT / ".venv" / "bin" / "python"))
    finds = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
    for candidate in (sys.executable, reference):
        if Path(candidate).is_file() and subprocess.run([candidate, "-c", finds, module]).returncode == 0:
            return candidate
    pytest.skip(f"{module} is neither here nor in {reference}; ./setup.sh installs it there")


def run_script(python: str, script: Path, *arguments: object) -> None:
    """Runs a script of the tests, in a process of its own and perhaps another Python."""
    command = [python, str(script), *map(str, arguments)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def write_bundles(kind: str, directory: Path) -> Path:
    run_script(python_with("paddle"), Path(__file__).with_name("tiny_bundles.py"), kind, directory)
    return directory


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the classifier `reviews` and the masked LM `characters`, of at most 64 tokens."""
    return write_bundles("tiny", tmp_path_factory.mktemp("tiny")) / "models"


@pytest.fixture(scope="session")
def slow_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one classifier whose full batch takes seconds."""
    return write_bundles("slow", tmp_path_factory.mktemp("slow")) / "models"


@pytest.fixture(scope="session")
def paddlenlp_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`reviews/` as PaddleNLP exports it, and `logits.json` of its own model."""
    return write_bundles("paddlenlp", tmp_path_factory.mktemp("paddlenlp"))


@pytest.fixture(scope="session")
def exported_heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`models/` with PaddleNLP exports of other heads, and `probabilities.json` of the one with a softmax."""
    return write_bundles("heads", tmp_path_factory.mktemp("heads"))


@pytest.fixture(scope="session")
def service(tiny_models: Path) -> Iterator[Service]:
    """A ready service of both tiny models, with small limits; tests must leave it working."""
    with serving(tiny_models, "--max-inputs", "40", "--max-masks", "3") as running:
        running.wait_ready()
        yield running


@pytest.fixture(scope="session")
def embedded() -> Iterator[Service]:
    """A ready service of the models that come with the repository."""
    with serving(ROOT / "models") as running:
        running.wait_ready()
        yield running
