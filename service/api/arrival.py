"""Reads request bodies that arrive after their heads, with limits on size, time, and the sum of all sizes."""

from __future__ import annotations

import asyncio

from starlette.types import Receive

from service.api.deadline import Deadline
from service.api.gate import too_large
from service.problem import Problem

# The first bytes of a body are in the server's buffers anyway, so they do not count for the sum over all bodies.
FREE_BYTES = 1 << 16


class ClientLeft(Exception):
    """The client has closed the connection, so no answer is needed."""


class Arrivals:
    """The bodies that this process is reading."""

    def __init__(self, max_bytes: int, max_bytes_together: int, seconds: float) -> None:
        """`max_bytes` and `seconds` limit one body, `max_bytes_together` limits all bodies that are being read."""
        self._max_bytes = max_bytes
        self._max_bytes_together = max_bytes_together
        self._seconds = seconds
        self._bytes = 0

    async def read(self, receive: Receive) -> bytes:
        """The complete body. Raises ClientLeft, and Problem `too_large`, `overloaded` or `body_timeout`."""
        body, counted = bytearray(), 0
        try:
            with Deadline(self._seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientLeft
                    body += message.get("body", b"")
                    if len(body) > self._max_bytes:
                        raise too_large(self._max_bytes)
                    if not message.get("more_body", False):
                        return bytes(body)
                    more = max(0, len(body) - FREE_BYTES) - counted
                    if more and self._bytes + more > self._max_bytes_together:
                        raise Problem(
                            "overloaded", "too many large requests are arriving at the same time; try again later."
                        )
                    counted, self._bytes = counted + more, self._bytes + more
        except asyncio.TimeoutError:
            raise Problem(
                "body_timeout", f"the body had not arrived after {self._seconds:g} s; send it faster."
            ) from None
        finally:
            self._bytes -= counted
