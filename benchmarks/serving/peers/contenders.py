"""The compared servers: those of other libraries, and ernie-serve with each runtime.

Each runs as a separate process with its children. The environment of a peer is made under build/peers when it is
missing, from the exact versions in benchmarks/serving/peers/servers.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
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

from benchmarks.serving.service import cpu_seconds, free_port, serving
from model_build.bundle import Bundle

SERVERS = Path(__file__).parent / "servers"
ROOT = Path(__file__).parents[3]
ENVIRONMENTS = ROOT / "build" / "peers"
START_SECONDS = 60.0
STOP_SECONDS = 10.0
# The peers refuse no request, so ernie-serve refuses none here: requests are queued, and the latency shows it.
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
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended in the meantime
                total += cpu_seconds(process)
        return total

    def settle(self) -> None:
        """Waits until the rest of a load is processed, five seconds at most."""
        over = time.monotonic() + 5.0
        while time.monotonic() < over:
            before = self.cpu_seconds()
            time.sleep(0.1)
            if self.cpu_seconds() - before < 0.02:
                return


@dataclass(frozen=True)
class Peer:
    """The service of another library: a module of benchmarks.serving.peers.servers."""

    name: str
    module: str
    libraries: tuple[str, ...]
    """Libraries whose versions are reported, as named in the requirements."""
    command: tuple[str, ...] = ()
    """Arguments of Python; by default the module itself."""
    plain: bool = False
    """Whether it serves the model as other exporters write it instead of the graph of the bundle."""

    @property
    def requirements(self) -> Path:
        """Its packages in exact versions."""
        return SERVERS / f"requirements-{self.module}.txt"

    def versions(self) -> str:
        """Of its libraries, ONNX Runtime and `tokenizers`."""
        pinned = dict(re.findall(r"^([\w.-]+)==(\S+)", self.requirements.read_text(encoding="utf-8"), re.MULTILINE))
        return ", ".join(f"{name} {pinned[name]}" for name in (*self.libraries, "onnxruntime", "tokenizers"))

    @contextlib.contextmanager
    def running(self, bundle: Bundle, flags: tuple[str, ...] = ()) -> Iterator[Running]:
        """A server that answers; raises SystemExit where it does not start. `flags` are for ernie-serve only."""
        python = environment(self)
        port = free_port()
        variables = {
            **os.environ, "BUNDLE": str(bundle.directory.resolve()), "PORT": str(port),
            "ENDPOINT": f"/{bundle.manifest.task}", "MOSEC_PORT": str(port), "MOSEC_ADDRESS": "127.0.0.1",
        }  # fmt: skip
        command = [str(python), *(self.command or ("-m", f"benchmarks.serving.peers.servers.{self.module}"))]
        command = [part.format(port=port) for part in command]
        with tempfile.TemporaryFile("w+") as log:
            # Some of them leave children behind when they end; a new process group can be ended as a whole.
            process = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=log, stderr=log, start_new_session=True)
            try:
                url = f"http://127.0.0.1:{port}"
                if not _answers(f"{url}/{bundle.manifest.task}", process):
                    log.seek(0)
                    raise SystemExit(f"{self.name} did not start; its last output:\n{log.read()[-2000:]}")
                yield Running(url, process.pid)
            finally:
                _end_group(process)


@dataclass(frozen=True)
class Ours:
    """ernie-serve with one runtime in one precision, or with a bundle in int8."""

    name: str
    runtime: str
    precision: str = "fp32"
    int8: bool = False

    @property
    def flags(self) -> tuple[str, ...]:
        """Those of ernie-serve."""
        return ("--runtime", self.runtime, "--precision", self.precision)

    @contextlib.contextmanager
    def running(self, bundle: Bundle, flags: tuple[str, ...] = ()) -> Iterator[Running]:
        """A server that is ready; raises SystemExit where it does not start."""
        with serving(bundle.directory, *self.flags, *UNLIMITED, *flags) as service:
            yield Running(service.url, service.process.pid)


Contender = Peer | Ours

FASTAPI = (
    "-m",
    "uvicorn",
    "benchmarks.serving.peers.servers.plain:app",
    "--port",
    "{port}",
    "--workers",
    "2",
    "--no-access-log",
)
PEERS = (
    Peer("FastAPI, no batching", "plain", ("fastapi", "uvicorn"), FASTAPI),
    Peer("FastAPI, plain graph", "plain", ("fastapi", "uvicorn"), FASTAPI, plain=True),
    Peer("LitServe", "litserve", ("litserve",)),
    Peer("mosec", "mosec", ("mosec",)),
)
OURS = (
    Ours("FastDeploy", "fastdeploy"),
    Ours("ONNX Runtime", "onnxruntime"),
    Ours("OpenVINO", "openvino"),
    Ours("OpenVINO, bf16", "openvino", "bf16"),
    Ours("OpenVINO, int8 bundle", "openvino", int8=True),
    Ours("FastDeploy, int8 bundle", "fastdeploy", int8=True),
)


def environment(peer: Peer) -> Path:
    """The Python of a peer's environment, made by uv where it is missing or was made of other requirements."""
    folder = ENVIRONMENTS / peer.module
    python, made_of = folder / "bin" / "python", folder / "requirements.txt"
    wanted = peer.requirements.read_text(encoding="utf-8")
    if made_of.is_file() and made_of.read_text(encoding="utf-8") == wanted:
        return python
    uv = Path(sys.executable).with_name("uv")
    tool = str(uv) if uv.is_file() else shutil.which("uv")
    if tool is None:
        raise SystemExit("uv is needed for the environments of the peers; `./setup.sh` installs it.")
    print(f"making the environment of {peer.name} in {folder}", file=sys.stderr)
    subprocess.run([tool, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], check=True)
    install = [tool, "pip", "install", "--quiet", "--python", str(python), "--requirement", str(peer.requirements)]
    subprocess.run(install, check=True)
    made_of.write_text(wanted, encoding="utf-8")  # last: an environment without it is made again
    return python


def _answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    """Waits for the first answer; False where the process ends, or after START_SECONDS."""
    request = urllib.request.Request(url, b'{"inputs": "[MASK]"}', {"Content-Type": "application/json"})
    over = time.monotonic() + START_SECONDS
    while time.monotonic() < over and process.poll() is None:
        with contextlib.suppress(OSError):  # HTTPError is an OSError, too
            return urllib.request.urlopen(request, timeout=5).status == 200
        time.sleep(0.1)
    return False


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to a process and its children, SIGKILL to those that are left after STOP_SECONDS."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        over = time.monotonic() + STOP_SECONDS
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
            while time.monotonic() < over:
                process.poll()
                os.killpg(process.pid, 0)
                time.sleep(0.05)
    process.wait()
