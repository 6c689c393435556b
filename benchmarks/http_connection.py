"""One HTTP/1.1 connection in a few lines: a full client would take as much of the machine as the service it loads."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

IDLE_SECONDS = 3.0
"""A connection idle for longer is not used again; the service closes it after 5."""
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_REQUEST_ID = re.compile(rb"\r\nx-request-id: *([^\r]*)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    request_id: str
    body: bytes


def post(url: str, path: str, body: bytes, headers: str = "Content-Type: application/json\r\n") -> bytes:
    """The bytes of a request; `headers` are whole lines."""
    host = urlsplit(url).netloc
    return f"POST {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


class HttpConnection:
    """Sends one request after the other; opened when needed, and again after the service has closed it."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._host, self._port = address.hostname, address.port
        self._used = 0.0
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> Answer:
        """Raises OSError or asyncio.IncompleteReadError where no whole answer comes."""
        reader, writer = await self._open()
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            body = await reader.readexactly(int(length.group(1))) if length else b""
        except BaseException:
            self.close()
            raise
        if _CLOSE.search(head):
            self.close()
        self._used = time.monotonic()
        found = _REQUEST_ID.search(head)
        return Answer(int(head[9:12]), found.group(1).decode("latin-1") if found else "", body)

    async def send(self, request: bytes) -> None:
        """Sends without waiting for the answer."""
        _, writer = await self._open()
        writer.write(request)
        await writer.drain()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        # One that has been idle for long may be closed by the service at this very moment; the end of it is only seen
        # when the event loop comes to it.
        if self._streams and (self._streams[0].at_eof() or time.monotonic() - self._used > IDLE_SECONDS):
            self.close()
        self._used = time.monotonic()
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        return self._streams

    def close(self) -> None:
        """Hangs up."""
        if self._streams:
            self._streams[1].close()
            self._streams = None
