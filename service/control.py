"""What the parent process and its API workers tell each other, and the parent's side of it.

Frames are those of the engines (service/engine/messages.py). A worker is told its settings first, then the table of
models after every change of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from service.engine.client import READ_BYTES
from service.engine.messages import FrameError, FrameReader, frame

log = logging.getLogger(__name__)


class Configure(msgspec.Struct, tag=True):
    """Parent to worker, first: the settings, and SHA-256 of the API keys, before the first request can come in."""

    settings: dict[str, Any]
    digests: list[str]


class Keys(msgspec.Struct, tag=True):
    """Parent to worker: SHA-256 of the API keys that are good from now on."""

    digests: list[str]


class Model(msgspec.Struct, frozen=True):
    """One line of the table: a bundle and its engine. Another `number` is another load of whatever bundle."""

    number: int
    name: str
    directory: str
    socket: str | None = None
    responsive: bool = False


class Table(msgspec.Struct, tag=True):
    """Parent to worker: the models served from now on."""

    serial: int
    models: list[Model]


class Drain(msgspec.Struct, tag=True):
    """Parent to worker: be not ready, serve for `delay_seconds` more, then end."""

    delay_seconds: float


class Reload(msgspec.Struct, tag=True):
    """Worker to parent: look at the model repository again."""

    id: int


class Reloaded(msgspec.Struct, tag=True):
    """Parent to worker, answers the Reload of the same id: names of models, and sentences about what was refused."""

    id: int = 0
    loaded: list[str] = []
    unloaded: list[str] = []
    unchanged: list[str] = []
    refused: dict[str, str] = {}


class InUse(msgspec.Struct, tag=True):
    """Worker to parent: the loads it has requests of, or may get some of, since it knows the table `serial`."""

    serial: int
    numbers: list[int]


ToWorker = Configure | Keys | Table | Drain | Reloaded
ToParent = Reload | InUse


class _Worker:
    """The parent's view of one connected worker."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.in_use: set[int] = set()

    def send(self, message: msgspec.Struct) -> None:
        self.writer.write(frame(message))


class Control:
    """The parent's end: a Unix socket on which workers come and go."""

    def __init__(
        self, settings: dict[str, Any], digests: list[str], on_reload: Callable[[], Awaitable[Reloaded]]
    ) -> None:
        self._configure = Configure(settings, digests)
        self._on_reload = on_reload
        self._table = Table(0, [])
        self._drain: Drain | None = None
        self._workers: set[_Worker] = set()
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def listening(self, path: Path) -> Any:
        """Serves workers for the time of the block."""
        server = await asyncio.start_unix_server(self._serve, str(path))
        try:
            yield
        finally:
            server.close()

    def publish(self, models: list[Model]) -> None:
        """Tells every worker, and those to come, what is served."""
        self._table = Table(self._table.serial + 1, models)
        for worker in self._workers:
            worker.in_use |= {model.number for model in models}
        self._broadcast(self._table)

    def admit(self, digests: list[str]) -> None:
        """Tells every worker, and those to come, which API keys are good."""
        self._configure.digests = digests
        self._broadcast(Keys(digests))

    def drain(self, delay_seconds: float) -> None:
        """Tells every worker to end."""
        self._drain = Drain(delay_seconds)
        self._broadcast(self._drain)

    async def unused(self, number: int) -> None:
        """Returns when no worker has a request of the load `number` any more."""
        async with self._changed:
            await self._changed.wait_for(lambda: not any(number in worker.in_use for worker in self._workers))

    def _broadcast(self, message: msgspec.Struct) -> None:
        for worker in self._workers:
            worker.send(message)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        worker = _Worker(writer)
        worker.send(self._configure)
        worker.send(self._table)
        if self._drain:
            worker.send(self._drain)
        # Until it says otherwise, it may use all it was told of.
        worker.in_use = {model.number for model in self._table.models}
        self._workers.add(worker)
        frames = FrameReader(ToParent)
        try:
            while data := await reader.read(READ_BYTES):
                for message in frames.feed(data):
                    await self._receive(worker, message)
        except (ConnectionError, FrameError):
            pass  # handled like an end of the stream: the worker is gone
        finally:
            self._workers.discard(worker)
            async with self._changed:
                self._changed.notify_all()
            writer.close()

    async def _receive(self, worker: _Worker, message: Any) -> None:
        if isinstance(message, InUse):
            # A worker that has not read the newest table cannot say what of it it will not use.
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
            done = Reloaded(refused={"reload": "it failed, and nothing more was changed; the log says why."})
        worker.send(msgspec.structs.replace(done, id=request_id))


class WorkerControl:
    """A worker's end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, frames: FrameReader) -> None:
        """`frames` may hold what came behind the settings."""
        self._reader = reader
        self._writer = writer
        self._frames = frames
        self._ids = itertools.count(1)
        self._reloads: dict[int, asyncio.Future[Reloaded]] = {}

    async def listen(
        self,
        on_keys: Callable[[list[str]], None],
        on_table: Callable[[Table], Awaitable[None]],
        on_drain: Callable[[float], None],
    ) -> None:
        """Hands on what the parent says, until it is gone."""
        with contextlib.suppress(ConnectionError, FrameError):
            data = b""
            while True:
                for message in self._frames.feed(data):
                    if isinstance(message, Keys):
                        on_keys(message.digests)
                    elif isinstance(message, Table):
                        await on_table(message)
                    elif isinstance(message, Drain):
                        on_drain(message.delay_seconds)
                    elif isinstance(message, Reloaded):
                        waiting = self._reloads.pop(message.id, None)
                        if waiting and not waiting.done():  # the client that asked may have left
                            waiting.set_result(message)
                data = await self._reader.read(READ_BYTES)
                if not data:
                    return

    async def reload(self) -> Reloaded:
        """Has the parent look at the repository again; returns when all it led to is done."""
        request_id = next(self._ids)
        self._reloads[request_id] = asyncio.get_running_loop().create_future()
        self._writer.write(frame(Reload(request_id)))
        return await self._reloads[request_id]

    def in_use(self, serial: int, numbers: list[int]) -> None:
        """Tells the parent which loads this worker still needs, knowing the table `serial`."""
        self._writer.write(frame(InUse(serial, numbers)))
