"""Requests and answers as bytes over real sockets."""

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator

import pytest

BODY = json.dumps({"text": "今天"}).encode()


def request(path: str = "/classify", body: bytes = BODY, version: str = "1.1", **headers: str) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    head = (
        f"POST {path} HTTP/{version}\r\nHost: service\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{''.join(lines)}\r\n"
    )
    return head.encode() + body


@dataclasses.dataclass
class Answered:
    """An answer as it came: its first line, headers and body."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def status(self) -> int:
        return int(self.line.split()[1])


async def told(
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], sent: bytes, count: int = 1
) -> list[Answered]:
    """Sends all of it at once; the answers that come, up to `count` or the end of the connection."""
    reader, writer = streams
    writer.write(sent)
    answers = []
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        for _ in range(count):
            line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            body = await reader.readexactly(int(headers["content-length"]))
            answers.append(Answered(line, headers, body))
    return answers


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def unheard(*_: object) -> None:
    pytest.fail("the application was called")
