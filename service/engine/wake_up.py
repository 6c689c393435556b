"""Wakes a thread that waits in `select`."""

from __future__ import annotations

import contextlib
import os


class WakeUp:
    """A pipe that `wake` makes readable."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)

    def fileno(self) -> int:
        """Readable from `wake` to `clear`."""
        return self._reading

    def wake(self) -> None:
        """Makes the pipe readable; any thread may call it."""
        with contextlib.suppress(BlockingIOError):  # the pipe is full, so it is readable
            os.write(self._writing, b".")

    def clear(self) -> None:
        """Undoes all earlier calls of `wake`."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._reading, 4096)

    def close(self) -> None:
        """Closes the pipe; `wake` must not be called afterwards."""
        os.close(self._reading)
        os.close(self._writing)
