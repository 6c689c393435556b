"""Reads request bodies that have not arrived whole with their head: within a size, a time, and a sum over all."""

from __future__ import annotations

import asyncio

from starlette.types import Receive

from service.api.deadline import Deadline
from service.api.gate import too_large
from service.problem import Problem

# The first bytes of a body lie in the server's buffers in any case: short bodies are read however many arrive.
FREE_BYTES = 1 << 16


class ClientLeft(Exception):
    """The client has closed the connection: nobody reads an answer."""


class Arrivals:
    """All bodies that are arriving in this process."""

    def __init__(self, max_bytes: int, max_bytes_together: int, seconds: float) -> None:
        """`max_bytes` and `seconds` are limits of one body, `max_bytes_together` of all that arrive at once."""
        self._max_bytes = max_bytes
        self._max_bytes_together = max_bytes_together
        self._seconds = seconds
        self._bytes = 0

    async def read(self, receive: Receive) -> bytes:
        """The whole body. Raises ClientLeft, and Problem `too_large`, `overloaded` or `body_timeout`."""
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
                        raise Problem("overloaded", "too many large requests are arriving at once; try again later.")
                    counted, self._bytes = counted + more, self._bytes + more
        except asyncio.TimeoutError:
            raise Problem(
                "body_timeout", f"the body had not arrived after {self._seconds:g} s; send it faster."
            ) from None
        finally:
            self._bytes -= counted
