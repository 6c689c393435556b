"""The end of a connection whose client is still sending.

If a server closes a connection while data arrives, the client gets a reset, which removes the answer from its buffer.
So the server first closes only its own direction, and reads and drops data until the client closes (RFC 9112, section
9.6).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

# Limits of the data that is dropped. A client that sends more gets a reset.
LINGER_BYTES = 64 << 20
LINGER_SECONDS = 30.0


class Lingering(asyncio.Protocol):
    """The protocol of a connection after its last answer has been written."""

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, lost: Callable[[Exception | None], None]
    ) -> None:
        """Closes the direction to the client. `lost` is called when the connection no longer exists."""
        self._transport = transport
        self._lost = lost
        self._left = LINGER_BYTES
        self._timer = loop.call_later(LINGER_SECONDS, transport.abort)
        transport.set_protocol(self)
        transport.write_eof()

    def data_received(self, data: bytes) -> None:
        """Drops the data."""
        self._left -= len(data)
        if self._left < 0:
            self._transport.abort()

    def eof_received(self) -> None:
        """The client has read the answer, or has left: the transport closes the connection."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the lingering."""
        self._timer.cancel()
        self._lost(exc)
