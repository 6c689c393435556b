"""The faults, and the seeded schedule that chooses them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.serving.chaos import timeline as kinds
from benchmarks.serving.chaos.limits import TemporaryFolder, descriptors_limited, memory_limited
from benchmarks.serving.chaos.questions_of import CLASSIFIER, LM, labels_of
from benchmarks.serving.chaos.timeline import Fault, Timeline
from benchmarks.serving.connection import Answer, HttpConnection, post
from benchmarks.serving.growth import happened
from benchmarks.serving.service import WORKER, Service

RECOVERY_SECONDS = 60.0
"""After a fault, the service must be complete and ready within this time."""
READY_IN_A_ROW = 5
"""The number of new connections that must find the service ready: each may reach another API process."""
RELOADED = "reloaded: "


@dataclass(frozen=True)
class Victim:
    """The service and everything that can be done to it."""

    service: Service
    models: Path
    folder: TemporaryFolder
    key: str
    api_processes: int
    hang_seconds: float


class Faults:
    """Does one fault after the other and waits until the service has recovered."""

    def __init__(
        self, victim: Victim, timeline: Timeline, rng: random.Random, wrong: list[str], show: Callable[[str], None]
    ) -> None:
        """Appends a sentence to `wrong` for every promise that a fault showed to be broken."""
        self._victim = victim
        self._service = victim.service
        self._timeline = timeline
        self._rng = rng
        self._wrong = wrong
        self._show = show
        self._began = timeline.clock()
        self._version = 1
        self._deck: list[Callable[[], Awaitable[None]]] = []

    async def run(self, ended: asyncio.Event, gap: float) -> None:
        """Until the event; `gap` is the mean time between a recovery and the next fault, in seconds."""
        while not await happened(ended, self._rng.uniform(0.5, 1.5) * gap):
            if not self._deck:
                self._deck = [
                    self.kill_api_process, self.exchange, self.kill_engine, self.fill_folder, self.stop_api_process,
                    self.damage, self.stop_engine, self.signals, self.limit_memory, self.limit_descriptors,
                ]  # fmt: skip
                if self._victim.folder.reason:
                    self._deck.remove(self.fill_folder)
                self._rng.shuffle(self._deck)
            fault = self._deck.pop()
            try:
                await fault()
            except psutil.NoSuchProcess as error:
                self._wrong.append(f"process {error.pid} ended while {fault.__name__} was running")
            if self._service.process.poll() is not None:
                self._wrong.append(f"the service ended with status {self._service.process.returncode}")
                return

    # What the faults have in common

    async def _process(self, name: str) -> psutil.Process:
        found: psutil.Process = self._rng.choice((await asyncio.to_thread(self._service.children))[name])
        return found

    def _report(self, fault: Fault, note: str) -> None:
        fault.note = note
        model = f" ({fault.model})" if fault.model else ""
        took = self._timeline.clock() - fault.begun
        self._show(f"{fault.begun - self._began:8.1f} s  {fault.kind}{model}: {note}; recovered after {took:.1f} s")

    async def recovered(self) -> bool:
        """Waits until all processes run and the service is ready; whether it was in time."""
        deadline, in_a_row = time.monotonic() + RECOVERY_SECONDS, 0
        while time.monotonic() < deadline and self._service.process.poll() is None:
            in_a_row = in_a_row + 1 if await asyncio.to_thread(self._complete) else 0
            if in_a_row == READY_IN_A_ROW:
                return True
            await asyncio.sleep(0.05)
        return False

    def _complete(self) -> bool:
        children = self._service.children()
        expected = {WORKER: self._victim.api_processes, CLASSIFIER: 1, LM: 1}
        return {name: len(each) for name, each in children.items()} == expected and self._service.is_ready()

    async def _recover(self, fault: Fault, note: str) -> None:
        if not await self.recovered():
            self._wrong.append(f"{RECOVERY_SECONDS:.0f} s after {fault.kind} the service had not recovered")
        self._report(fault, note)

    @staticmethod
    def _ports(process: psutil.Process) -> frozenset[int]:
        """Ports of the clients of an API process, which must not run at this moment."""
        return frozenset(each.raddr.port for each in process.net_connections("tcp") if each.raddr)

    async def _ask(self, path: str) -> Answer:
        connection = HttpConnection(self._service.url)
        try:
            request = post(self._service.url, path, b"", headers=f"Authorization: Bearer {self._victim.key}\r\n")
            return await asyncio.wait_for(connection.ask(request), RECOVERY_SECONDS)
        finally:
            connection.close()

    # Processes

    async def kill_api_process(self) -> None:
        """SIGKILL to an API process."""
        process = await self._process(WORKER)
        with self._timeline.fault(kinds.API_KILLED) as fault:
            self._kill_api(process, fault)
            await self._recover(fault, f"process {process.pid} with {len(fault.ports)} connections")

    def _kill_api(self, process: psutil.Process, fault: Fault) -> None:
        process.suspend()
        fault.ports = self._ports(process)
        process.kill()

    async def stop_api_process(self) -> None:
        """SIGSTOP to an API process, for shorter or longer than the service tolerates."""
        process = await self._process(WORKER)
        seconds = self._rng.choice([self._rng.uniform(0.5, 2.0), 2.0 * self._victim.hang_seconds])
        with self._timeline.fault(kinds.API_STOPPED) as fault:
            process.suspend()
            fault.ports = self._ports(process)
            note = await self._stopped(process, seconds)
            await self._recover(fault, f"process {process.pid} with {len(fault.ports)} connections, {note}")

    async def kill_engine(self) -> None:
        """SIGKILL to an engine."""
        name = self._rng.choice((CLASSIFIER, LM))
        process = await self._process(name)
        with self._timeline.fault(kinds.ENGINE_KILLED, name) as fault:
            process.kill()
            await self._recover(fault, f"process {process.pid}")

    async def stop_engine(self) -> None:
        """SIGSTOP to an engine, for shorter or longer than the service tolerates."""
        name = self._rng.choice((CLASSIFIER, LM))
        process = await self._process(name)
        seconds = self._rng.choice([self._rng.uniform(0.5, 2.0), 2.0 * self._victim.hang_seconds])
        with self._timeline.fault(kinds.ENGINE_STOPPED, name) as fault:
            process.suspend()
            await self._recover(fault, f"process {process.pid}, {await self._stopped(process, seconds)}")

    @staticmethod
    async def _stopped(process: psutil.Process, seconds: float) -> str:
        """Continues a stopped process after that time, unless the service has replaced it."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and process.is_running():
            await asyncio.sleep(0.05)
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                process.resume()
                return f"continued after {seconds:.1f} s"
        return "replaced by the service"

    async def signals(self) -> None:
        """Signals that must harm nobody: to API processes, and SIGHUP several times to the parent."""
        process = await self._process(WORKER)
        with self._timeline.fault(kinds.SIGNALLED) as fault:
            chosen = self._rng.sample([signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGWINCH], 2)
            for each in chosen:
                process.send_signal(each)
            before = self._service.log().count(RELOADED)
            for _ in range(3):
                self._service.process.send_signal(signal.SIGHUP)
            await self._reloaded_by_signal(before)
            await self._recover(
                fault, f"{', '.join(each.name for each in chosen)} to {process.pid}, SIGHUP to the parent"
            )
            if not process.is_running():
                self._wrong.append(f"API process {process.pid} ended after {[each.name for each in chosen]}")

    # Limits

    async def fill_folder(self) -> None:
        """Fills the temporary folder; meanwhile an engine or an API process is killed, or nothing more happens."""
        folder, more = self._victim.folder, self._rng.choice([None, self.kill_engine, self.kill_api_process])
        with self._timeline.fault(kinds.FOLDER_FULL) as fault:
            size = folder.fill()
            killing = asyncio.ensure_future(more()) if more else None
            await asyncio.sleep(self._rng.uniform(1.0, 4.0))
            folder.empty()
            if killing:
                await killing
            await self._recover(fault, f"filled with {size >> 10} KiB, {more.__name__ if more else 'nothing killed'}")

    async def limit_memory(self) -> None:
        """Limits the new memory of an engine for some seconds."""
        name = self._rng.choice((CLASSIFIER, LM))
        process = await self._process(name)
        with self._timeline.fault(kinds.MEMORY, name) as fault:
            with memory_limited(process) as way:
                until = time.monotonic() + self._rng.uniform(1.0, 3.0)
                while time.monotonic() < until and process.is_running():
                    await asyncio.sleep(0.05)
                outcome = "it survived" if process.is_running() else "it was killed"
            await self._recover(fault, f"process {process.pid}, by {way}, {outcome}")

    async def limit_descriptors(self) -> None:
        """An API process can open two more files only."""
        process = await self._process(WORKER)
        with self._timeline.fault(kinds.DESCRIPTORS) as fault:
            with descriptors_limited(process) as limit:
                await asyncio.sleep(self._rng.uniform(1.0, 3.0))
            await self._recover(fault, f"process {process.pid}, {limit} descriptors")

    # Bundles

    async def exchange(self) -> None:
        """A new version of a model, loaded by SIGHUP or by /admin/reload."""
        name = self._rng.choice((CLASSIFIER, LM))
        self._version += 1
        version = str(self._version)
        with self._timeline.fault(kinds.EXCHANGED, name) as fault:
            await asyncio.to_thread(put_version, self._victim.models / name, version)
            self._timeline.serves(name, version)
            way = self._rng.choice(("SIGHUP", "/admin/reload"))
            if way == "SIGHUP":
                before = self._service.log().count(RELOADED)
                self._service.process.send_signal(signal.SIGHUP)
                await self._reloaded_by_signal(before)
            else:
                document = await self._reload()
                if name not in document.get("loaded", ()):
                    self._wrong.append(f"/admin/reload did not load {name} version {version}: {document}")
            self._timeline.replaced(name)
            await self._recover(fault, f"version {version} by {way}")

    async def damage(self) -> None:
        """A new version with a damaged file must be refused, while the old one serves."""
        name = self._rng.choice((CLASSIFIER, LM))
        self._version += 1
        target = self._victim.models / name / str(self._version)
        way = self._rng.choice(sorted(DAMAGES))
        with self._timeline.fault(kinds.DAMAGED, name) as fault:
            await asyncio.to_thread(put_version, self._victim.models / name, str(self._version), DAMAGES[way])
            document = await self._reload()
            if not any(name in each for each in document.get("refused", {})):
                self._wrong.append(f"{way} of {name} was not refused: {document}")
            shutil.rmtree(target)
            await self._recover(fault, way)

    async def _reload(self) -> dict[str, list[str]]:
        answer = await self._ask("/admin/reload")
        if answer.status != 200:
            self._wrong.append(f"/admin/reload was answered {answer.status}: {answer.body[:200]!r}")
            return {}
        found: dict[str, list[str]] = json.loads(answer.body)
        return found

    async def _reloaded_by_signal(self, before: int) -> None:
        deadline = time.monotonic() + RECOVERY_SECONDS
        while self._service.log().count(RELOADED) == before:
            if time.monotonic() > deadline:
                self._wrong.append("SIGHUP had no effect")
                return
            await asyncio.sleep(0.05)


def put_version(model: Path, version: str, change: Callable[[Path], None] = lambda bundle: None) -> None:
    """Copies the newest bundle of a model as `version`, complete at once, and keeps the newest before."""
    ranked = sorted(model.iterdir(), key=lambda each: int(each.name))
    aside = model.parent.parent / f"{model.name}-{version}"
    shutil.copytree(ranked[-1], aside)
    about = json.loads((aside / "bundle.json").read_text(encoding="utf-8"))
    about.update(version=version, labels=labels_of(about["labels"], version))
    (aside / "bundle.json").write_text(json.dumps(about), encoding="utf-8")
    change(aside)
    aside.rename(model / version)
    for old in ranked[:-1]:
        shutil.rmtree(old)


def _graph_cut(bundle: Path) -> None:
    graph = next(iter(sorted(bundle.glob("graph/*.onnx"))))
    graph.write_bytes(graph.read_bytes()[:-100])


def _graph_changed(bundle: Path) -> None:
    graph = next(iter(sorted(bundle.glob("graph/*.onnx"))))
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 0xFF
    graph.write_bytes(data)


def _manifest_cut(bundle: Path) -> None:
    manifest = bundle / "bundle.json"
    manifest.write_bytes(manifest.read_bytes()[:200])


def _no_vocabulary(bundle: Path) -> None:
    (bundle / "vocab.txt").unlink()


DAMAGES: dict[str, Callable[[Path], None]] = {
    "graph cut short": _graph_cut,
    "byte of the graph changed": _graph_changed,
    "bundle.json cut short": _manifest_cut,
    "vocab.txt missing": _no_vocabulary,
}
