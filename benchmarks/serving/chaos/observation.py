"""Samples during a run: latency of /health/live, counters, open files and connections of the processes."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import multiprocessing
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from benchmarks.rounds import percentile
from benchmarks.serving.chaos.ledger import Rising
from benchmarks.serving.chaos.timeline import Timeline
from benchmarks.serving.growth import happened
from benchmarks.serving.metrics import Metrics
from benchmarks.serving.service import WORKER, Service

PROBE_EVERY_SECONDS = 0.05
PROBE_TIMEOUT_SECONDS = 30.0
SCRAPE_EVERY_SECONDS = 2.0
FILES_MORE = 8
"""A process may have this many more open files at the end, without clients, than at the start."""
SETTLING_SECONDS = 15.0


def probe(url: str, output: str) -> None:
    """Sends GET /health/live over a new connection again and again; a line of JSON for each. Never returns.

    It runs in a separate process, so that the clients of the run do not delay it.
    """
    address = urlsplit(url)
    with Path(output).open("w", buffering=1) as file:
        while True:
            begun, status, port = time.monotonic(), 0, 0
            try:
                connection = http.client.HTTPConnection(
                    address.hostname or "", address.port, timeout=PROBE_TIMEOUT_SECONDS
                )
                connection.connect()
                port = connection.sock.getsockname()[1]
                connection.request("GET", "/health/live", headers={"Connection": "close"})
                status = connection.getresponse().status
                connection.close()
            except (OSError, http.client.HTTPException):
                pass
            taken = time.monotonic() - begun
            file.write(json.dumps([begun, taken, status, port]) + "\n")
            time.sleep(max(0.0, PROBE_EVERY_SECONDS - taken))


@dataclass
class Liveness:
    """Milliseconds of /health/live, except on connections that a fault broke: see `Timeline.broke`."""

    milliseconds: list[float] = field(default_factory=list)
    excepted: int = 0
    wrong: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, output: Path, timeline: Timeline, most: float) -> Liveness:
        """From the lines of `probe`; `most` is the limit of the 99.9th percentile in milliseconds."""
        found = cls()
        for line in output.read_text().splitlines():
            begun, taken, status, port = json.loads(line)
            if timeline.broke(port, begun, begun + taken):
                found.excepted += 1
                continue
            found.milliseconds.append(1000 * taken)
            if status != 200:
                found.wrong.append(
                    f"/health/live was answered {status or 'not at all'} after {taken:.1f} s, at {begun:.1f}"
                )
        if (slow := percentile(found.milliseconds, 99.9)) > most:
            found.wrong.append(f"99.9 % of /health/live took up to {slow:.0f} ms, more than {most:.0f} ms")
        if not found.milliseconds:
            found.wrong.append("/health/live was never measured")
        return found

    def figures(self) -> dict[str, float]:
        """Percentiles and the highest value."""
        shown = {f"p{percent:g}": percentile(self.milliseconds, percent) for percent in (50, 99, 99.9)}
        return {**shown, "max": max(self.milliseconds, default=0.0)}


class Observation:
    """The samples that are taken while a run lasts."""

    def __init__(self, service: Service, output: Path) -> None:
        self._service = service
        self._output = output
        self._probing = multiprocessing.get_context("spawn").Process(
            target=probe, args=(service.url, str(output)), daemon=True
        )
        self.rising = Rising()
        self.scrapes = 0
        self.files: dict[str, list[int]] = {}
        """Open files of the parent and of the API processes, the largest number of each sample."""

    async def start(self) -> None:
        """Starts to measure /health/live."""
        self._probing.start()
        while not (self._output.exists() and self._output.stat().st_size):
            await asyncio.sleep(0.02)

    def stop(self) -> None:
        """Ends the measurement of /health/live."""
        self._probing.kill()
        self._probing.join()

    async def watch(self, ended: asyncio.Event) -> None:
        """Scrapes counters and counts files until the event."""
        while not await happened(ended, SCRAPE_EVERY_SECONDS):
            await asyncio.to_thread(self._sample)

    def _sample(self) -> None:
        with contextlib.suppress(OSError):  # its process was killed; the clients judge /metrics
            self.rising.observe(Metrics.of(self._service.url))
            self.scrapes += 1
        for name, number in self.open_files().items():
            self.files.setdefault(name, []).append(number)

    def open_files(self) -> dict[str, int]:
        """The number of open files of the parent and of the API processes."""
        children = self._service.children()
        processes = {"parent": [psutil.Process(self._service.process.pid)], WORKER: children.get(WORKER, [])}
        found = {}
        for name, each in processes.items():
            numbers = []
            for process in each:
                with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError):
                    numbers.append(process.num_fds())
            found[name] = max(numbers, default=0)
        return found

    async def leaks(self, before: dict[str, int]) -> list[str]:
        """Waits until the processes have closed the connections of the clients; a sentence for each that has more."""
        deadline = time.monotonic() + SETTLING_SECONDS
        while True:
            after = await asyncio.to_thread(self.open_files)
            wrong = [
                f"{name} has {after[name]} open files at the end and had {number} at the start"
                for name, number in before.items()
                if after[name] > number + FILES_MORE
            ]
            if not wrong or time.monotonic() > deadline:
                return wrong
            await asyncio.sleep(0.2)
