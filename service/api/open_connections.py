"""The connections of a process, with limits on their number: which are open, idle, and closed but not yet gone."""

from __future__ import annotations

from typing import Protocol


class Closable(Protocol):
    """A connection, as this table sees it."""

    def close(self) -> None:
        """Closes the connection after all pending bytes are sent, and reports it with `OpenConnections.ended`."""

    def abort(self) -> None:
        """Closes the connection now."""


class OpenConnections:
    """If too many connections are open, a new one closes the one that has been idle longest.

    If every other connection has a request, the new one is closed. A closed connection exists until its client has read
    the last answer. It does not count as open, but the number of these connections has the same limit: beyond it, the
    one that was closed first is ended.
    """

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._open: set[Closable] = set()
        self._ended: dict[Closable, None] = {}
        self.idle: dict[Closable, None] = {}
        """The open connections without a request, the one that has been idle longest first."""

    def add(self, connection: Closable) -> None:
        """Adds a new connection, which is idle."""
        self._open.add(connection)
        self.idle[connection] = None
        if len(self._open) > self._maximum:
            next(iter(self.idle)).close()

    def ended(self, connection: Closable) -> None:
        """Records that no more requests are read from a connection."""
        if connection in self._open:
            self._open.remove(connection)
            self.idle.pop(connection, None)
            self._ended[connection] = None
            if len(self._ended) > self._maximum:
                next(iter(self._ended)).abort()

    def remove(self, connection: Closable) -> None:
        """Forgets a connection that no longer exists."""
        self._open.discard(connection)
        self.idle.pop(connection, None)
        self._ended.pop(connection, None)
