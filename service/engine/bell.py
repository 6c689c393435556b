"""A thread that waits for input is woken by another."""

from __future__ import annotations

import contextlib
import os


class Bell:
    """Wakes whoever waits for it in a select."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)

    def fileno(self) -> int:
        """Readable after it has been rung, until it is hushed."""
        return self._reading

    def ring(self) -> None:
        """From any thread."""
        with contextlib.suppress(BlockingIOError):  # it has been rung often enough
            os.write(self._writing, b".")

    def hush(self) -> None:
        """Takes back all the rings so far."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._reading, 4096)

    def close(self) -> None:
        """Nobody may ring any more."""
        os.close(self._reading)
        os.close(self._writing)
