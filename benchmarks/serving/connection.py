"""One HTTP/1.1 connection in a few lines: a full client would take as much of the machine as the loaded service."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

JSON = "application/json"
IDLE_SECONDS = 30.0
"""A connection idle for longer is not used again; the service closes it after 75."""
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_REQUEST_ID = re.compile(rb"\r\nx-request-id: *([^\r]*)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


@dataclass(frozen=True)
class Answer:
    """What the service answered."""

    status: int
    request_id: str
    body: bytes


def post(url: str, path: str, body: bytes, content_type: str = JSON, headers: str = "") -> bytes:
    """The bytes of a request; `headers` are more lines, each with its end."""
    host = urlsplit(url).netloc
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {content_type}\r\n{headers}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class HttpConnection:
    """Sends one request after the other; opened when needed, and opened again after the service has closed it."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._host, self._port = address.hostname or "localhost", address.port or 80
        self._used = 0.0
        self._open: _Connection | None = None

    async def ask(self, request: bytes) -> Answer:
        """Raises OSError or asyncio.IncompleteReadError where no whole answer comes."""
        connection = await self._connection()
        try:
            answer = await connection.ask(request)
        except BaseException:
            self.close()
            raise
        self._used = time.monotonic()
        return answer

    async def send(self, request: bytes) -> None:
        """Sends without waiting for the answer."""
        (await self._connection()).transport.write(request)

    async def _connection(self) -> _Connection:
        # The service may just be closing a connection that has been idle for long; its end is seen only when the event
        # loop handles it.
        if self._open and (self._open.transport.is_closing() or time.monotonic() - self._used > IDLE_SECONDS):
            self.close()
        self._used = time.monotonic()
        if self._open is None:
            _, self._open = await asyncio.get_running_loop().create_connection(_Connection, self._host, self._port)
        return self._open

    def close(self) -> None:
        """Hangs up."""
        if self._open:
            self._open.transport.close()
            self._open = None


class _Connection(asyncio.Protocol):
    """An open connection. Streams, with a buffer and a wait for each part, take twice the time."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._received = b""
        self._answer: asyncio.Future[Answer] | None = None

    async def ask(self, request: bytes) -> Answer:
        """Raises OSError or asyncio.IncompleteReadError where no whole answer comes."""
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self._answer

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if (end := self._received.find(b"\r\n\r\n") + 4) < 4:
            return
        head = self._received[: end - 2]
        length = _LENGTH.search(head)
        if len(self._received) < (end := end + (int(length.group(1)) if length else 0)):
            return
        body, self._received = self._received[len(head) + 2 : end], self._received[end:]
        if _CLOSE.search(head):
            self.transport.close()
        if self._answer and not self._answer.done():
            found = _REQUEST_ID.search(head)
            self._answer.set_result(Answer(int(head[9:12]), found.group(1).decode("latin-1") if found else "", body))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(exc or asyncio.IncompleteReadError(self._received, None))
