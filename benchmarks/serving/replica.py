"""One replica as the manifests of k8s/base run it: a service with their settings, probes and grace period."""

from __future__ import annotations

import asyncio
import datetime
import json
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.serving.connection import HttpConnection
from benchmarks.serving.service import Service

BASE = Path(__file__).parents[2] / "k8s" / "base"
ENDPOINTS = ("/classify", "/fill-mask")


@dataclass(frozen=True)
class Probe:
    """An httpGet probe; the defaults are those of Kubernetes."""

    path: str
    period: float = 10.0
    timeout: float = 1.0
    failures: int = 3

    @classmethod
    def read(cls, manifest: dict[str, Any]) -> Probe:
        """From the `…Probe` of a container."""
        names = {"periodSeconds": "period", "timeoutSeconds": "timeout", "failureThreshold": "failures"}
        given = {names[name]: value for name, value in manifest.items() if name in names}
        return cls(path=manifest["httpGet"]["path"], **given)

    async def passes(self, url: str) -> bool:
        """One attempt, over a new connection."""
        connection = HttpConnection(url)
        request = f"GET {self.path} HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n".encode()
        try:
            return 200 <= (await asyncio.wait_for(connection.ask(request), self.timeout)).status < 400
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
            return False
        finally:
            connection.close()


@dataclass(frozen=True)
class Manifest:
    """The part of k8s/base about starting and ending a replica."""

    replicas: int
    startup: Probe
    readiness: Probe
    liveness: Probe
    grace_seconds: float
    settings: dict[str, str]

    @classmethod
    def read(cls, base: Path) -> Manifest:
        """Raises SystemExit where the Deployment is updated in another way than the rehearsal does."""
        spec = yaml.safe_load((base / "deployment.yaml").read_text(encoding="utf-8"))["spec"]
        if spec["strategy"]["rollingUpdate"] != {"maxSurge": 1, "maxUnavailable": 0}:
            raise SystemExit(f"{base}/deployment.yaml: only maxSurge 1 with maxUnavailable 0 is rehearsed.")
        pod = spec["template"]["spec"]
        (container,) = pod["containers"]
        lines = (base / "settings.env").read_text(encoding="utf-8").split()
        return cls(
            replicas=spec["replicas"],
            startup=Probe.read(container["startupProbe"]),
            readiness=Probe.read(container["readinessProbe"]),
            liveness=Probe.read(container["livenessProbe"]),
            grace_seconds=pod["terminationGracePeriodSeconds"],
            settings=dict(line.split("=", 1) for line in lines),
        )


class Replica:
    """One service with its probes: what a kubelet sees of a pod."""

    def __init__(self, name: str, manifest: Manifest, models: Path, folder: Path) -> None:
        self.name = name
        self.ready = False
        self.terminating = False
        self.killed_by_liveness = False
        self.notes: list[str] = []
        self._manifest = manifest
        self._begun = time.monotonic()
        settings = {**manifest.settings, "ERNIE_LOG_REQUESTS": "true"}
        self._service = Service(models, log=folder / f"{name}.log", settings=settings)

    @property
    def url(self) -> str:
        """Where it listens; empty before it does."""
        return self._service.url

    def log(self) -> str:
        """All it has logged."""
        return self._service.log()

    async def start(self) -> None:
        """Returns when the startup probe has passed; raises SystemExit where it does not in time."""
        probe = self._manifest.startup
        for _ in range(probe.failures):
            if self.url and await probe.passes(self.url):
                self.notes.append(f"startup probe passed after {self._age():.1f} s")
                return
            await asyncio.sleep(probe.period)
        raise SystemExit(f"{self.name} has not passed its startup probe:\n{self.log()}")

    async def watch(self, changed: Callable[[], None]) -> None:
        """Runs readiness and liveness probes; calls `changed` at each change of `ready`."""
        await asyncio.gather(self._watch_readiness(changed), self._watch_liveness())

    async def _watch_readiness(self, changed: Callable[[], None]) -> None:
        probe, failed = self._manifest.readiness, 0
        while True:
            failed = 0 if await probe.passes(self.url) else failed + 1
            if self.ready != (failed == 0) and failed in (0, probe.failures):
                self.ready = failed == 0
                self.notes.append(f"{'ready' if self.ready else 'not ready'} after {self._age():.1f} s")
                changed()
            await asyncio.sleep(probe.period)

    async def _watch_liveness(self) -> None:
        probe, failed = self._manifest.liveness, 0
        while not self.terminating:
            failed = 0 if await probe.passes(self.url) else failed + 1
            self.killed_by_liveness |= failed >= probe.failures
            await asyncio.sleep(probe.period)

    async def terminate(self) -> bool:
        """SIGTERM, and SIGKILL after the grace period; whether it ended with status 0 before that."""
        self.notes.append(f"SIGTERM after {self._age():.1f} s")
        begun, moment = time.monotonic(), datetime.datetime.now(datetime.timezone.utc)
        process = self._service.process
        process.send_signal(signal.SIGTERM)
        while process.poll() is None and time.monotonic() - begun < self._manifest.grace_seconds:
            await asyncio.sleep(0.05)
        good = process.poll() == 0
        late = [(when - moment).total_seconds() for when in answered(self.log()) if when > moment]
        self.notes.append(f"then {len(late)} requests, the last one {max(late, default=0):.1f} s later")
        self.notes.append(f"ended {time.monotonic() - begun:.1f} s after SIGTERM with status {process.poll()}")
        self.kill()
        return good and not self.killed_by_liveness

    def kill(self) -> None:
        """Ends it at once, if it still runs."""
        self._service.process.kill()
        self._service.process.wait()

    def _age(self) -> float:
        return time.monotonic() - self._begun


def answered(log: str) -> list[datetime.datetime]:
    """When a service has answered requests to its two endpoints, from its log in JSON lines."""
    entries = (json.loads(line) for line in log.splitlines() if '"path"' in line)
    return [
        datetime.datetime.fromisoformat(each["time"].replace("Z", "+00:00"))
        for each in entries
        if each["path"] in ENDPOINTS
    ]
