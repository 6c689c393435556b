"""The link of a model to its engine: EngineClient is one connection; EngineLink uses the engine that runs now."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from service.messages import local_socket
from service.messages.frames import FrameError, FrameReader, frame
from service.messages.inference import (
    Cancel,
    Failed,
    Infer,
    Inferred,
    Item,
    Priority,
    Ready,
    Started,
    ToApi,
)


class EngineFailed(Exception):
    """A request that has no results. `code` is engine_failed, deadline_exceeded, invalid_input or refused_input."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def _never_ready() -> EngineFailed:
    return EngineFailed("engine_failed", "the engine closed the connection before it was ready.")


class NeverStarted(Exception):
    """The engine stopped while the request was still in its queue: another engine may run it."""


class EngineClient(asyncio.Protocol):
    """One connection to an engine. It can have any number of unanswered requests."""

    def __init__(self, lost: Callable[[EngineClient], None]) -> None:
        """`lost` is called once, when the connection is closed."""
        self._loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[Ready] = self._loop.create_future()
        self._lost = lost
        self._frames = FrameReader(ToApi)
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Inferred]] = {}
        self._started: set[int] = set()
        self._unsent: list[bytes] = []
        self._closed = False

    async def infer(
        self, items: Sequence[Item], deadline: float | None = None, priority: Priority = "interactive"
    ) -> Inferred:
        """The results of the items; `deadline` is in seconds of CLOCK_MONOTONIC. Raises EngineFailed or NeverStarted.

        If the call is cancelled, its items are removed from the engine's queue.
        """
        if self._closed:
            raise NeverStarted
        request_id = next(self._ids)
        future: asyncio.Future[Inferred] = self._loop.create_future()
        self._waiting[request_id] = future
        self._send(frame(Infer(request_id, list(items), deadline, priority, time.monotonic())))
        try:
            return await future
        finally:
            self._started.discard(request_id)
            if self._waiting.pop(request_id, None) is not None and not self._closed:
                self._send(frame(Cancel(request_id)))

    def _send(self, message: bytes) -> None:
        """Sends a message together with the others of this iteration of the event loop."""
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(message)

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if not self._closed:
            self._transport.write(b"".join(unsent))

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._frames.feed(data):
                self._receive(message)
        except FrameError:
            self.close()  # the rest of the stream cannot be read

    def connection_lost(self, _: Exception | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection. Started requests raise EngineFailed, queued ones NeverStarted."""
        if self._closed:
            return
        self._closed = True
        self._transport.close()
        self._lost(self)
        if not self.ready.done():
            self.ready.set_exception(_never_ready())
        waiting, self._waiting = self._waiting, {}
        for request_id, future in waiting.items():
            if not future.done():
                started = request_id in self._started
                future.set_exception(_lost_in_flight() if started else NeverStarted())

    def _receive(self, message: Any) -> None:
        if isinstance(message, Inferred):
            if (future := self._waiting.pop(message.id, None)) and not future.done():  # otherwise the caller has left
                future.set_result(message)
        elif isinstance(message, Started):
            self._started.update(self._waiting.keys() & message.ids)
        elif isinstance(message, Failed):
            if (future := self._waiting.pop(message.id, None)) and not future.done():
                future.set_exception(EngineFailed(message.code, message.message))
        elif isinstance(message, Ready) and not self.ready.done():
            self.ready.set_result(message)


def _lost_in_flight() -> EngineFailed:
    return EngineFailed("engine_failed", "the engine stopped while it had this request.")


class EngineLink:
    """The engine of a model. After a restart it is another process."""

    def __init__(self) -> None:
        self.ready: Ready | None = None
        """The first message of the running engine; None while no engine runs."""
        self._client: EngineClient | None = None
        self._attached = asyncio.Event()

    async def attach(self, address: str | Path) -> None:
        """Connects to a warm engine. Raises OSError or EngineFailed if it has stopped."""
        await self.detach()
        loop = asyncio.get_running_loop()
        connected = await local_socket.connect(address)
        _, client = await loop.create_unix_connection(lambda: EngineClient(self._lose), sock=connected)
        try:
            ready = await client.ready
        except asyncio.CancelledError:
            client.close()
            raise
        if self._client:  # another call was faster
            self._client.close()
        self.ready, self._client = ready, client
        self._attached.set()

    async def detach(self) -> None:
        """Closes the connection. Requests that the engine had not started wait for the next engine."""
        if self._client:
            self._client.close()

    def _lose(self, client: EngineClient) -> None:
        if self._client is client:
            self.ready = self._client = None
            self._attached.clear()

    async def infer(
        self, items: Sequence[Item], deadline: float | None = None, priority: Priority = "interactive"
    ) -> Inferred:
        """See EngineClient.infer. Raises EngineFailed at once while no engine runs.

        If an engine stops before it starts a request, the request waits for the next engine until it is cancelled.
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
                continue
