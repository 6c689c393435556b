"""The limits of one connection on silence and unsent bytes, and the ways in which a server ends it."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from service.api.lingering import Lingering
from service.api.moving_limit import MovingLimit
from service.api.shared import Shared
from service.api.tcp import discard_unsent, file_number, unsent_bytes


class LimitedConnection(asyncio.Protocol):
    """The part of a connection that does not depend on the protocol of its requests."""

    # The class of the protocol has these.
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    connections: set[Any]
    timeout_keep_alive: int

    def __init__(self, *arguments: Any, shared: Shared, **more: Any) -> None:
        """The other arguments are those of the class of the protocol."""
        super().__init__(*arguments, **more)
        self._shared = shared
        self._idle = shared.table.idle
        self._unwritten_bytes = 0
        self._half_closed = self._ended = False
        # The limit covers the time before a complete head.
        self._silence = MovingLimit(self.loop, self.silent)

    def silent(self) -> None:
        """Called when the limit on silence has passed."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop. Closes the connection that has been idle longest if there are too many."""
        super().connection_made(transport)
        self._shared.unsent.watch(self.loop, self.connections)
        self._silence.limit(self.timeout_keep_alive + self._shared.settings.head_seconds)
        self._shared.table.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop when the connection no longer exists."""
        self._ended = True
        self._silence.stop()
        self._shared.table.remove(self)
        self._shared.unsent.progressed(self)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Called by the loop when the buffer of unsent bytes is full."""
        super().pause_writing()
        self._shared.unsent.paused(self, self.connections)

    def resume_writing(self) -> None:
        """Called by the loop when the buffer of unsent bytes is almost empty again."""
        super().resume_writing()
        self._shared.unsent.progressed(self)

    def unsent_bytes(self) -> int:
        """The number of bytes that wait until the client reads, with those in the kernel if its buffer is full."""
        return unsent_bytes(self.transport, self._unwritten_bytes)

    def file_number(self) -> int:
        """The file descriptor of the socket; -1 if it is closed."""
        return file_number(self.transport)

    def abort(self) -> None:
        """Closes the connection now; unsent bytes are lost."""
        self._ended = True
        self._silence.until = math.inf
        discard_unsent(self.transport)
        self.transport.abort()

    def close(self) -> None:
        """Closes the connection after all pending bytes are sent."""
        self._end()
        self.transport.close()

    def linger(self) -> None:
        """Closes the connection after all pending bytes are sent and the client has finished sending."""
        if self._half_closed:
            self.close()
            return
        self._end()
        Lingering(self.transport, self.loop, self.connection_lost)

    def _end(self) -> None:
        self._ended = True
        self._silence.until = math.inf
        self._shared.table.ended(self)
