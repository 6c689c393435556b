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
    Configure,
    Drain,
    InUse,
    Keys,
    ModelEntry,
    ModelTable,
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
        self.in_use: set[int] = set()

    def send(self, message: msgspec.Struct) -> None:
        self.writer.write(frame(message))


class Control:
    """The Unix socket to which every API process connects."""

    def __init__(
        self, settings: dict[str, Any], digests: list[str], on_reload: Callable[[], Awaitable[Reloaded]]
    ) -> None:
        self._configure = Configure(settings, digests)
        self._on_reload = on_reload
        self._table = ModelTable(0, [])
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
            async with self._changed:
                self._changed.notify_all()
            writer.close()

    async def _receive(self, worker: _Worker, message: Any) -> None:
        if isinstance(message, InUse):
            # A report on an older table does not cover the models of the newest one.
            if message.serial == self._table.serial:
                async with self._changed:
                    worker.in_use = set(message.numbers)
                    self._changed.notify_all()
            return
        task = asyncio.create_task(self._reload(worker, message.id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reload(self, worker: _Worker, request_id: int) -> None:
        try:
            done = await self._on_reload()
        except Exception:
            log.exception("a reload failed")
            done = Reloaded(refused={"reload": "the reload failed and stopped there; the log names the reason."})
        worker.send(msgspec.structs.replace(done, id=request_id))
