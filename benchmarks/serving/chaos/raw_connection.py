"""A connection on which a client controls every byte and when it is sent and read."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from urllib.parse import urlsplit

from benchmarks.serving.connection import Answer

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_REQUEST_ID = re.compile(rb"\r\nx-request-id: *([^\r]*)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
HEAD_END = b"\r\n\r\n"


class RawConnection:
    """One TCP connection, never opened again."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, opened: float) -> None:
        self._reader = reader
        self._writer = writer
        self.opened = opened
        self.port: int = writer.get_extra_info("sockname")[1]
        self.closing = False
        """Whether the service has announced that it closes the connection."""

    @classmethod
    async def open(cls, url: str, receive_buffer: int = 0, limit: int = 1 << 16) -> RawConnection:
        """`receive_buffer` is the size of the system's buffer, `limit` that of this process; 0: the default."""
        address = urlsplit(url)
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            if receive_buffer:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            made.setblocking(False)
            opened = time.monotonic()
            await asyncio.get_running_loop().sock_connect(made, (address.hostname or "localhost", address.port or 80))
            reader, writer = await asyncio.open_connection(sock=made, limit=limit)
        except BaseException:
            made.close()
            raise
        return cls(reader, writer, opened)

    async def send(self, data: bytes, pieces: int = 1, pause: float = 0.0) -> None:
        """Sends the data in equal pieces with a pause between them."""
        size = -(-len(data) // pieces)
        for start in range(0, len(data), size):
            if start:
                await asyncio.sleep(pause)
            self._writer.write(data[start : start + size])
            await self._writer.drain()

    async def answer(self, chunk: int = 0, pause: float = 0.0) -> Answer:
        """The next answer, read in chunks with a pause between them. Raises OSError or asyncio.IncompleteReadError."""
        head = await self._reader.readuntil(HEAD_END)
        length = _LENGTH.search(head)
        left = int(length.group(1)) if length else 0
        parts = []
        while left:
            part = await self._reader.readexactly(min(left, chunk) if chunk else left)
            parts.append(part)
            left -= len(part)
            if pause:
                await asyncio.sleep(pause)
        self.closing = self.closing or _CLOSE.search(head) is not None
        found = _REQUEST_ID.search(head)
        return Answer(int(head[9:12]), found.group(1).decode("latin-1") if found else "", b"".join(parts))

    async def rest(self) -> bytes:
        """Everything until the service closes the connection; empty if it resets the connection."""
        try:
            return await self._reader.read(1 << 16)
        except OSError:
            return b""

    def close(self, abruptly: bool = False) -> None:
        """Closes the connection; `abruptly` with a reset."""
        if abruptly:
            self._writer.transport.abort()
        else:
            self._writer.close()
