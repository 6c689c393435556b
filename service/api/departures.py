"""Notices clients that leave while nothing is read from their connections.

Two kinds of connections with a running request are watched:

- Connections from which nothing is read, because the client has sent other requests ahead.
- Connections whose clients have closed their direction. A client that waits for its answer looks like a client that has
  left, until something is sent to it: only the kernel of a client that has left rejects that.
"""

from __future__ import annotations

import asyncio
import select
from typing import Protocol

LOOK_SECONDS = 0.02


class Watched(Protocol):
    """A connection, as this module sees it."""

    def file_number(self) -> int:
        """The file descriptor of the socket; -1 if nothing needs to be watched."""

    def half_closed(self) -> None:
        """Called, perhaps repeatedly, when the client has closed its direction."""

    def abort(self) -> None:
        """Called when the client has left."""


class Departures:
    """Polls the sockets of the watched connections. It runs only while there are any."""

    def __init__(self) -> None:
        self._watched: dict[Watched, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, connection: Watched, loop: asyncio.AbstractEventLoop) -> None:
        """Watches a connection as long as it has a file number."""
        self._watched[connection] = None
        if self._timer is None:
            self._timer = loop.call_later(LOOK_SECONDS, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        connections = {number: each for each in self._watched if (number := each.file_number()) >= 0}
        self._watched = dict.fromkeys(connections.values())
        poll = select.poll()
        for number in connections:
            poll.register(number, select.POLLRDHUP)
        for number, event in poll.poll(0):
            if event & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
                connections[number].abort()
            else:
                connections[number].half_closed()
        if self._watched:
            self._timer = loop.call_later(LOOK_SECONDS, self._look, loop)
