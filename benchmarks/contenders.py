"""Who is compared by `python -m benchmarks.peers`: other libraries' services, and ernie-serve with each runtime.

Each runs as a process of its own with all its children. A peer's environment is made under build/peers when it is
missing, from the exact versions in benchmarks/servers.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.service_process import serving
from model_build.bundle import Bundle
from service.runtime.base import Precision, RuntimeName

ROOT = Path(__file__).parent.parent
ENVIRONMENTS = ROOT / "build" / "peers"
START_SECONDS = 60.0
STOP_SECONDS = 10.0
# The peers refuse nothing, so nothing is refused here either: requests wait, and the latency says so.
UNLIMITED = ("--max-queue-requests", "10000", "--max-queue-tokens", "10000000", "--max-connections", "10000")


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    url: str
    pid: int

    def cpu_seconds(self) -> float:
        """Of it and its children since they started, in user and system mode."""
        parent = psutil.Process(self.pid)
        total = 0.0
        for process in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):  # one that ends meanwhile
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def settle(self) -> None:
        """Waits until what a load left behind is worked off, five seconds at most."""
        over = time.monotonic() + 5.0
        while time.monotonic() < over:
            before = self.cpu_seconds()
            time.sleep(0.1)
            if self.cpu_seconds() - before < 0.02:
                return


@dataclass(frozen=True)
class Peer:
    """Another library's service: a module of benchmarks.servers."""

    name: str
    module: str
    libraries: tuple[str, ...]
    """Whose versions matter, as the requirements name them."""
    command: tuple[str, ...] = ()
    """Arguments of Python; by default the module itself."""
    plain: bool = False
    """Whether it serves the model as other exporters write it, and not the bundle's graph."""

    @property
    def requirements(self) -> Path:
        """Its packages in exact versions."""
        return ROOT / "benchmarks" / "servers" / f"requirements-{self.module}.txt"

    @contextlib.contextmanager
    def running(self, bundle: Bundle, flags: tuple[str, ...] = ()) -> Iterator[Running]:
        """A server that answers; raises SystemExit where none comes up. `flags` are ernie-serve's and not used."""
        python = environment(self)
        port = free_port()
        variables = {
            **os.environ, "BUNDLE": str(bundle.directory.resolve()), "PORT": str(port),
            "ENDPOINT": f"/{bundle.manifest.task}", "MOSEC_PORT": str(port), "MOSEC_ADDRESS": "127.0.0.1",
        }  # fmt: skip
        command = [str(python), *(self.command or ("-m", f"benchmarks.servers.{self.module}"))]
        command = [part.format(port=port) for part in command]
        with tempfile.TemporaryFile("w+") as log:
            # Some of them leave children behind when they are asked to end; a group of its own can be ended whole.
            process = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=log, stderr=log, start_new_session=True)
            try:
                url = f"http://127.0.0.1:{port}"
                if not _answers(f"{url}/{bundle.manifest.task}", process):
                    log.seek(0)
                    raise SystemExit(f"{self.name} did not start; its last words:\n{log.read()[-2000:]}")
                yield Running(url, process.pid)
            finally:
                _end_group(process)


@dataclass(frozen=True)
class Ours:
    """ernie-serve with one runtime in one precision, or with a bundle in int8."""

    name: str
    runtime: RuntimeName
    precision: Precision = "fp32"
    int8: bool = False

    @contextlib.contextmanager
    def running(self, bundle: Bundle, flags: tuple[str, ...] = ()) -> Iterator[Running]:
        """A server that is ready; raises SystemExit where none comes up."""
        own = ("--runtime", self.runtime, "--precision", self.precision)
        with serving(bundle.directory, *own, *UNLIMITED, *flags) as service:
            yield Running(service.url, service.process.pid)


Contender = Peer | Ours

FASTAPI = ("-m", "uvicorn", "benchmarks.servers.plain:app", "--port", "{port}", "--workers", "2", "--no-access-log")
PEERS = (
    Peer("FastAPI, no batching", "plain", ("fastapi", "uvicorn"), FASTAPI),
    Peer("FastAPI, plain graph", "plain", ("fastapi", "uvicorn"), FASTAPI, plain=True),
    Peer("LitServe", "litserve", ("litserve",)),
    Peer("mosec", "mosec", ("mosec",)),
)  # fmt: skip
OURS = (
    Ours("FastDeploy", "fastdeploy"),
    Ours("ONNX Runtime", "onnxruntime"),
    Ours("OpenVINO", "openvino"),
    Ours("OpenVINO, bf16", "openvino", "bf16"),
    Ours("OpenVINO, int8 bundle", "openvino", int8=True),
    Ours("FastDeploy, int8 bundle", "fastdeploy", int8=True),
)


def environment(peer: Peer) -> Path:
    """The Python of a peer's own environment, made by uv where it is missing or was made of other requirements."""
    folder = ENVIRONMENTS / peer.module
    python, made_of = folder / "bin" / "python", folder / "requirements.txt"
    wanted = peer.requirements.read_text(encoding="utf-8")
    if made_of.is_file() and made_of.read_text(encoding="utf-8") == wanted:
        return python
    uv = Path(sys.executable).with_name("uv")
    tool = str(uv) if uv.is_file() else shutil.which("uv")
    if tool is None:
        raise SystemExit("uv is needed for the environments of the peers; `make setup` installs it.")
    print(f"making the environment of {peer.name} in {folder}", file=sys.stderr)
    subprocess.run([tool, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], check=True)
    install = [tool, "pip", "install", "--quiet", "--python", str(python), "--requirement", str(peer.requirements)]
    subprocess.run(install, check=True)
    made_of.write_text(wanted, encoding="utf-8")  # last: an environment without it is made anew
    return python


def free_port() -> int:
    """A port that nobody listens on; the peers cannot choose one themselves."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    """Waits for the first answer; False where the process ends, or START_SECONDS do."""
    question = urllib.request.Request(url, b'{"inputs": "[MASK]"}', {"Content-Type": "application/json"})
    over = time.monotonic() + START_SECONDS
    while time.monotonic() < over and process.poll() is None:
        with contextlib.suppress(OSError):  # urllib's HTTPError is one, too
            return urllib.request.urlopen(question, timeout=5).status == 200
        time.sleep(0.1)
    return False


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to a process and its children, SIGKILL to what is left of them after a while."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        over = time.monotonic() + STOP_SECONDS
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
            while time.monotonic() < over:
                process.poll()
                os.killpg(process.pid, 0)
                time.sleep(0.05)
    process.wait()
