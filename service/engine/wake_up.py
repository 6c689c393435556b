"""Wakes a thread that waits in a select."""

from __future__ import annotations

import contextlib
import os


class WakeUp:
    """A pipe that becomes readable."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)

    def fileno(self) -> int:
        """Readable from `wake` to `clear`."""
        return self._reading

    def wake(self) -> None:
        """From any thread."""
        with contextlib.suppress(BlockingIOError):  # the pipe is full, so it is readable
            os.write(self._writing, b".")

    def clear(self) -> None:
        """Takes back every `wake` so far."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._reading, 4096)

    def close(self) -> None:
        """Closes the pipe; `wake` must not be called any longer."""
        os.close(self._reading)
        os.close(self._writing)
