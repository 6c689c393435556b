"""The bytes of an answer in HTTP/1.1 (RFC 9112)."""

from __future__ import annotations

import http
from collections.abc import Sequence

from service.api.request import Header

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in http.HTTPStatus}
# They are sent early to find out whether a client that has sent EOF is still there.
FIRST_BYTES = b"HTTP/1.1 "
"""The first bytes of every answer."""


def answer_bytes(status: int, headers: Sequence[Header], body: bytes, keep_alive: bool, sent: int = 0) -> bytes:
    """The head and the body of an answer, without the first `sent` bytes of the head (at most those of FIRST_BYTES)."""
    line = _STATUS_LINES[status]
    parts = [line[sent:] if sent else line]
    for name, value in headers:
        parts += (name, b": ", value, b"\r\n")
    parts += (b"\r\n" if keep_alive else b"connection: close\r\n\r\n", body)
    return b"".join(parts)
