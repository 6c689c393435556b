"""An API process's connection to the parent process."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable

from service.messages.control import Drain, InUse, Keys, ModelTable, Reload, Reloaded
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

    def report_in_use(self, serial: int, numbers: list[int]) -> None:
        """Reports which loads of the table `serial` this process still needs."""
        self._writer.write(frame(InUse(serial, numbers)))
