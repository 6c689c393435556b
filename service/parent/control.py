"""The parent's connections to the API processes. It sends settings, API keys and models, and receives reloads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from service.messages.control import (
    Alive,
    Configure,
    Drain,
    Keys,
    Loads,
    ModelEntry,
    ModelTable,
    Readiness,
    Reloaded,
    ToParent,
)
from service.messages.frames import READ_BYTES, FrameError, FrameReader, frame
from service.messages.local_socket import is_own_user, native_address

log = logging.getLogger(__name__)


class _Worker:
    """One connected API process."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.serial = 0
        """The newest table that it has reported on."""
        self.in_use: set[int] = set()
        self.ready: dict[str, int] = {}
        self.joined = False
        """Whether it has been connected to every engine that runs. Until then, it is not missed: the others serve."""

    def send(self, message: msgspec.Struct) -> None:
        self.writer.write(frame(message))


class Control:
    """The Unix socket to which every API process connects."""

    def __init__(
        self,
        settings: dict[str, Any],
        digests: list[str],
        on_reload: Callable[[], Awaitable[Reloaded]],
        processes: int = 1,
        on_alive: Callable[[int], None] = lambda pid: None,
    ) -> None:
        """`processes` is the number of API processes; `on_alive` is called with the process id of one that is alive."""
        self._processes = self._starting = processes
        self._on_alive = on_alive
        self._configure = Configure(settings, digests)
        self._on_reload = on_reload
        self._table = ModelTable(0, [])
        self._readiness = Readiness(processes)
        self._drain: Drain | None = None
        self._workers: set[_Worker] = set()
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def listening(self, address: str | Path) -> AsyncIterator[None]:
        """Accepts workers on the Unix socket `address` until the `with` block ends."""
        server = await asyncio.start_unix_server(self._serve, native_address(address))
        try:
            yield
        finally:
            server.close()

    def publish(self, models: list[ModelEntry]) -> None:
        """Sends the served models to every worker, including workers that connect later."""
        self._table = ModelTable(self._table.serial + 1, models)
        for worker in self._workers:
            worker.in_use |= {model.number for model in models}
        self._broadcast(self._table)
        self._renew_readiness()

    def replace_keys(self, digests: list[str]) -> None:
        """Sends the valid API keys to every worker, including workers that connect later."""
        self._configure.digests = digests
        self._broadcast(Keys(digests))

    def drain(self, delay_seconds: float) -> None:
        """Requests that every worker stops."""
        self._drain = Drain(delay_seconds)
        self._broadcast(self._drain)

    async def unused(self, number: int) -> None:
        """Returns when no worker needs the load `number`."""
        async with self._changed:
            await self._changed.wait_for(lambda: not any(number in worker.in_use for worker in self._workers))

    async def served(self) -> list[str]:
        """Returns when every worker serves the present table, with the names of models that a worker cannot load.

        It does not wait for engines that do not run.
        """
        serial = self._table.serial

        def running() -> dict[int, str]:
            return {model.number: model.name for model in self._table.models if model.responsive}

        def serves(worker: _Worker) -> bool:
            # In a report on the present table, a load that is not in use could not be loaded.
            return worker.serial >= serial and running().keys() & worker.in_use <= set(worker.ready.values())

        async with self._changed:
            await self._changed.wait_for(lambda: all(serves(worker) for worker in self._workers))
            in_use = [worker.in_use for worker in self._workers]
            return [name for number, name in running().items() if not all(number in each for each in in_use)]

    def _renew_readiness(self) -> None:
        """Sends every worker what is missing in any of them."""
        running = {model.name for model in self._table.models if model.responsive}
        for worker in self._workers:
            worker.joined = worker.joined or (worker.serial > 0 and running <= worker.ready.keys())
        joined = [worker for worker in self._workers if worker.joined]
        self._starting = max(0, min(self._starting, self._processes - len(joined)))
        missing = [
            model.name for model in self._table.models if not all(model.name in worker.ready for worker in joined)
        ]
        readiness = Readiness(self._starting, missing)
        if readiness != self._readiness:
            self._readiness = readiness
            self._broadcast(readiness)

    def _broadcast(self, message: msgspec.Struct) -> None:
        for worker in self._workers:
            worker.send(message)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not is_own_user(writer.get_extra_info("socket")):
            writer.close()
            return
        worker = _Worker(writer)
        worker.send(self._configure)
        worker.send(self._table)
        worker.send(self._readiness)
        if self._drain:
            worker.send(self._drain)
        # Until it reports its loads, it may use every model of the table.
        worker.in_use = {model.number for model in self._table.models}
        self._workers.add(worker)
        frames = FrameReader(ToParent)
        try:
            while data := await reader.read(READ_BYTES):
                for message in frames.feed(data):
                    await self._receive(worker, message)
        except (ConnectionError, FrameError):
            pass  # handled like the end of the stream: the worker is gone
        finally:
            self._workers.discard(worker)
            self._renew_readiness()
            async with self._changed:
                self._changed.notify_all()
            writer.close()

    async def _receive(self, worker: _Worker, message: Any) -> None:
        if isinstance(message, Alive):
            self._on_alive(message.pid)
            return
        if isinstance(message, Loads):
            async with self._changed:
                worker.serial, worker.ready = message.serial, message.ready
                # A report on an older table does not cover the models of the newest one.
                if message.serial == self._table.serial:
                    worker.in_use = set(message.in_use)
                self._changed.notify_all()
            self._renew_readiness()
            return
        task = asyncio.create_task(self._reload(worker, message.id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reload(self, worker: _Worker, request_id: int) -> None:
        try:
            done = await self._on_reload()
            for name in await self.served():
                done.loaded = [each for each in done.loaded if each != name]
                done.refused[name] = "an API process cannot load it; the log names the reason."
        except Exception:
            log.exception("a reload failed")
            done = Reloaded(refused={"reload": "the reload failed and stopped there; the log names the reason."})
        worker.send(msgspec.structs.replace(done, id=request_id))
