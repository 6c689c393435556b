"""The bytes that wait until clients read them, over all connections of a process, with limits on size and time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection
from typing import Protocol

log = logging.getLogger(__name__)

# Time between two looks at all connections. A look at 1,000 connections takes less than a millisecond.
LOOK_SECONDS = 1.0


class Sender(Protocol):
    """A connection, as this module sees it."""

    def unsent_bytes(self) -> int:
        """The number of bytes that wait until the client reads."""

    def abort(self) -> None:
        """Closes the connection now; unsent bytes are lost."""


class Unsent:
    """Ends connections whose clients do not read.

    Limits: `seconds` without progress of one connection, and `max_bytes` for the sum over all connections. Above that
    sum, the connections that have been without progress longest are ended. If several have had no progress for the same
    time, the one with the most unsent bytes is ended first.
    """

    def __init__(self, max_bytes: int, seconds: float) -> None:
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._look_seconds = min(LOOK_SECONDS, seconds / 4)
        # Of each connection with unsent bytes: their number at the last look, and the time of the last progress.
        self._waiting: dict[Sender, tuple[int, float]] = {}
        # The sum at the last look, and the bytes of the connections that stopped accepting bytes after it.
        self._at_most = 0
        self._looking = False

    def watch(self, loop: asyncio.AbstractEventLoop, connections: Collection[Sender]) -> None:
        """Looks at `connections` regularly until there are none. A second call has no effect during this time."""
        if not self._looking:
            self._looking = True
            loop.call_later(self._look_seconds, self._look_again, loop, connections)

    def paused(self, sender: Sender, connections: Collection[Sender]) -> None:
        """Called when the buffer of a connection is full. Only then can the sum grow by more than a small answer."""
        size = sender.unsent_bytes()
        self._waiting.setdefault(sender, (size, time.monotonic()))
        self._at_most += size
        if self._at_most > self._max_bytes:
            self._look(time.monotonic(), connections)

    def progressed(self, sender: Sender) -> None:
        """Called when the buffer of a connection is almost empty again, and when the connection is lost."""
        self._waiting.pop(sender, None)

    def _look_again(self, loop: asyncio.AbstractEventLoop, connections: Collection[Sender]) -> None:
        self._looking = False
        self._look(time.monotonic(), connections)
        if connections:
            self.watch(loop, connections)

    def _look(self, now: float, connections: Collection[Sender]) -> None:
        waiting: dict[Sender, tuple[int, float]] = {}
        for sender in connections:
            if size := sender.unsent_bytes():
                before, since = self._waiting.get(sender, (0, now))
                waiting[sender] = size, (now if size < before else since)
        self._waiting = waiting
        total = sum(size for size, _ in waiting.values())
        for sender in sorted(waiting, key=lambda each: (waiting[each][1], -waiting[each][0])):
            size, since = waiting[sender]
            if now - since < self._seconds and total <= self._max_bytes:
                break
            log.info("a connection is ended: its client did not read %d bytes for %.1f s", size, now - since)
            total -= size
            sender.abort()
        self._at_most = total
