"""An API process's side of its engines: `EngineClient` is one connection, `EngineLink` whichever engine runs now."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from service.engine.batching import Priority
from service.engine.messages import (
    Answer,
    Cancel,
    Failed,
    FrameError,
    FrameReader,
    Infer,
    Item,
    Ready,
    Started,
    ToApi,
    frame,
)

READ_BYTES = 1 << 20


class EngineFailed(Exception):
    """A request that got no results. `code` is engine_failed, deadline_exceeded or invalid_input."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


async def connect(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Ready]:
    """Connects to an engine that has warmed up; raises OSError or EngineFailed where there is none."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    frames = FrameReader(ToApi)
    while data := await reader.read(READ_BYTES):
        for message in frames.feed(data):
            if isinstance(message, Ready):
                return reader, writer, message
    writer.close()
    raise EngineFailed("engine_failed", "the engine closed the connection before it was ready.")


class NeverStarted(Exception):
    """The engine ended while a request still waited in its queue: another engine may run it."""


class EngineClient:
    """One connection, any number of requests in flight."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ready: Ready) -> None:
        self.ready = ready
        self._reader = reader
        self._writer = writer
        self._frames = FrameReader(ToApi)
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._started: set[int] = set()
        self._closed = False

    async def infer(
        self, items: Sequence[Item], deadline: float | None = None, priority: Priority = "interactive"
    ) -> Answer:
        """Results of the items; `deadline` is in seconds of CLOCK_MONOTONIC. Raises EngineFailed or NeverStarted.

        A cancelled call takes its items out of the engine's queue.
        """
        if self._closed:
            raise NeverStarted
        request_id = next(self._ids)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = future
        self._writer.write(frame(Infer(request_id, list(items), deadline, priority, time.monotonic())))
        try:
            return await future
        finally:
            self._started.discard(request_id)
            if self._waiting.pop(request_id, None) is not None and not self._closed:
                self._writer.write(frame(Cancel(request_id)))

    async def listen(self) -> None:
        """Hands answers to those who wait, until the connection ends.

        Then those whose forward pass had begun get EngineFailed, and those in the queue NeverStarted.
        """
        try:
            while data := await self._reader.read(READ_BYTES):
                for message in self._frames.feed(data):
                    self._receive(message)
        except (ConnectionError, FrameError):
            pass  # handled like an end of the stream: nothing more will come
        finally:
            self._closed = True
            waiting, self._waiting = self._waiting, {}
            lost = EngineFailed("engine_failed", "the engine stopped while it had this request.")
            for request_id, future in waiting.items():
                if not future.done():
                    future.set_exception(lost if request_id in self._started else NeverStarted())
            self._writer.close()

    async def close(self) -> None:
        """Ends the connection."""
        self._closed = True
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    def _receive(self, message: Any) -> None:
        if isinstance(message, Started):
            self._started.update(self._waiting.keys() & set(message.ids))
            return
        future = self._waiting.pop(message.id, None) if isinstance(message, Answer | Failed) else None
        if future is None or future.done():
            return  # the caller has gone
        if isinstance(message, Answer):
            future.set_result(message)
        else:
            future.set_exception(EngineFailed(message.code, message.message))


class EngineLink:
    """The engine of a model, whichever process it is at the moment."""

    def __init__(self) -> None:
        self._client: EngineClient | None = None
        self._listening: asyncio.Task[None] | None = None
        self._attached = asyncio.Event()

    @property
    def ready(self) -> Ready | None:
        """What the running engine said of itself; None while there is none."""
        return self._client.ready if self._client else None

    async def attach(self, path: Path) -> None:
        """Connects to a warm engine. Raises OSError or EngineFailed where it has gone again."""
        await self.detach()
        client = self._client = EngineClient(*await connect(path))
        self._attached.set()
        self._listening = asyncio.create_task(self._listen(client))

    async def detach(self) -> None:
        """Leaves the engine; requests it had not started wait for the next one."""
        if self._listening:
            self._listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listening
            self._listening = None

    async def _listen(self, client: EngineClient) -> None:
        try:
            await client.listen()
        finally:
            if self._client is client:
                self._client = None
                self._attached.clear()

    async def infer(
        self, items: Sequence[Item], deadline: float | None = None, priority: Priority = "interactive"
    ) -> Answer:
        """See EngineClient.infer. While no engine runs, raises EngineFailed at once.

        A request that an ending engine had not started is given to the next; the caller bounds the wait.
        """
        if self._client is None:
            raise EngineFailed("engine_failed", "the engine is being restarted.")
        while True:
            client = self._client
            if client is None:
                await self._attached.wait()
                continue
            try:
                return await client.infer(items, deadline, priority)
            except NeverStarted:
                await asyncio.sleep(0)  # `_listen` notices the end of the connection too
