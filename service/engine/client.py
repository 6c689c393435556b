"""An API process's side of the connection to an engine."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from service.engine.messages import (
    Answer,
    BatchDone,
    Cancel,
    Failed,
    FrameError,
    FrameReader,
    Infer,
    Item,
    Ready,
    ToApi,
    frame,
)

READ_BYTES = 1 << 20


class EngineFailed(Exception):
    """A request that got no results. `code` is engine_failed, deadline_exceeded or invalid_input."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class EngineClient:
    """One connection, any number of requests in flight."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ready: Ready) -> None:
        self.ready = ready
        self.on_batch: Callable[[BatchDone], None] = lambda _: None
        self._reader = reader
        self._writer = writer
        self._frames = FrameReader(ToApi)
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._closed = False
        self.last_heard = asyncio.get_running_loop().time()
        """When the engine last sent anything, or was last idle, in the event loop's time."""

    @classmethod
    async def connect(cls, path: Path) -> EngineClient:
        """Connects and waits for Ready; raises OSError or EngineFailed where there is no engine."""
        reader, writer = await asyncio.open_unix_connection(str(path))
        frames = FrameReader(ToApi)
        while True:
            data = await reader.read(READ_BYTES)
            if not data:
                writer.close()
                raise EngineFailed("engine_failed", "the engine closed the connection before it was ready.")
            for message in frames.feed(data):
                if isinstance(message, Ready):
                    return cls(reader, writer, message)

    @property
    def in_flight(self) -> int:
        """Requests that wait for an answer."""
        return len(self._waiting)

    async def infer(self, items: Sequence[Item], deadline: float | None = None) -> Answer:
        """Results of the items; `deadline` is in seconds of CLOCK_MONOTONIC. Raises EngineFailed.

        A cancelled call takes its items out of the engine's queue.
        """
        if self._closed:
            raise EngineFailed("engine_failed", "the engine is gone; it is being restarted.")
        loop = asyncio.get_running_loop()
        if not self._waiting:
            self.last_heard = loop.time()
        request_id = next(self._ids)
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting[request_id] = future
        self._writer.write(frame(Infer(request_id, list(items), deadline)))
        try:
            return await future
        finally:
            if self._waiting.pop(request_id, None) is not None and not self._closed:
                self._writer.write(frame(Cancel(request_id)))

    async def listen(self) -> None:
        """Hands answers to those who wait, until the connection ends; then everyone waiting gets EngineFailed."""
        try:
            while data := await self._reader.read(READ_BYTES):
                self.last_heard = asyncio.get_running_loop().time()
                for message in self._frames.feed(data):
                    self._receive(message)
        except (ConnectionError, FrameError):
            pass  # handled like an end of the stream: nothing more will come
        finally:
            self._closed = True
            waiting, self._waiting = self._waiting, {}
            for future in waiting.values():
                if not future.done():
                    future.set_exception(EngineFailed("engine_failed", "the engine stopped while it had this request."))
            self._writer.close()

    async def close(self) -> None:
        """Ends the connection."""
        self._closed = True
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    def _receive(self, message: Any) -> None:
        if isinstance(message, BatchDone):
            self.on_batch(message)
            return
        future = self._waiting.pop(message.id, None) if isinstance(message, Answer | Failed) else None
        if future is None or future.done():
            return  # the caller has gone
        if isinstance(message, Answer):
            future.set_result(message)
        else:
            future.set_exception(EngineFailed(message.code, message.message))
