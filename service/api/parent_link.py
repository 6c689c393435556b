"""An API process's connection to the parent process."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Awaitable, Callable

from service.messages.control import Alive, Drain, Keys, Loads, ModelTable, Readiness, Reload, Reloaded
from service.messages.frames import READ_BYTES, FrameError, FrameReader, frame


class ParentLink:
    """Receives keys, models and the request to drain; requests reloads and reports which models are in use."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, frames: FrameReader) -> None:
        """`frames` may already hold messages that arrived after the settings."""
        self._reader = reader
        self._writer = writer
        self._frames = frames
        self._ids = itertools.count(1)
        self._reloads: dict[int, asyncio.Future[Reloaded]] = {}

    async def listen(
        self,
        on_keys: Callable[[list[str]], None],
        on_table: Callable[[ModelTable], Awaitable[None]],
        on_readiness: Callable[[Readiness], None],
        on_drain: Callable[[float], None],
    ) -> None:
        """Calls the function for each message of the parent; returns when the connection to the parent is closed."""
        with contextlib.suppress(ConnectionError, FrameError):
            data = b""
            while True:
                for message in self._frames.feed(data):
                    if isinstance(message, Keys):
                        on_keys(message.digests)
                    elif isinstance(message, ModelTable):
                        await on_table(message)
                    elif isinstance(message, Readiness):
                        on_readiness(message)
                    elif isinstance(message, Drain):
                        on_drain(message.delay_seconds)
                    elif isinstance(message, Reloaded):
                        future = self._reloads.pop(message.id, None)
                        if future and not future.done():  # the client of this reload may have left
                            future.set_result(message)
                data = await self._reader.read(READ_BYTES)
                if not data:
                    return

    async def reload(self) -> Reloaded:
        """Requests that the parent reads the repository again; returns when all changes are done."""
        request_id = next(self._ids)
        self._reloads[request_id] = asyncio.get_running_loop().create_future()
        self._writer.write(frame(Reload(request_id)))
        return await self._reloads[request_id]

    def report_loads(self, serial: int, in_use: list[int], ready: dict[str, int]) -> None:
        """Reports which loads of the table `serial` this process still needs, and which load serves each name."""
        self._writer.write(frame(Loads(serial, in_use, ready)))

    async def beat(self, seconds: float) -> None:
        """Shows the parent every `seconds` that the event loop runs, until it is cancelled."""
        while True:
            self._writer.write(frame(Alive(os.getpid())))
            await asyncio.sleep(seconds)
