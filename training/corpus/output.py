"""Files that are written front to back; a disk that is full or refuses is an error that names the file."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from model_build.atomic_write import write_errors

BLOCK = 1 << 20
"""Bytes buffered, and numbers read back at a time."""


class Output:
    """A file that is written once, front to back, and hashed on the way if that is wanted."""

    def __init__(self, path: Path, *, hashed: bool = True) -> None:
        self.path = path
        self._hashed = hashed
        self._bytes, self._digest = 0, hashlib.sha256()
        with write_errors(path):
            self._file = path.open("wb", buffering=BLOCK)

    def write(self, data: np.ndarray | bytes) -> None:
        """Adds bytes, or those of a contiguous array."""
        view = memoryview(data.data if isinstance(data, np.ndarray) else data)
        view = view.cast("B") if view.nbytes else memoryview(b"")
        with write_errors(self.path):
            self._file.write(view)
        if self._hashed:
            self._digest.update(view)
        self._bytes += view.nbytes

    def blocks(self, dtype: str) -> Iterator[np.ndarray]:
        """What has been written so far, a block at a time."""
        with write_errors(self.path):
            self._file.flush()
        with self.path.open("rb") as file:
            while len(block := np.fromfile(file, dtype, BLOCK)):
                yield block

    def close(self) -> None:
        """Ends the file; it is on the disk when this returns."""
        with write_errors(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def discard(self) -> None:
        """Removes the file, if it has not been renamed."""
        # A full disk fails the flush inside close() as well; the file goes away all the same.
        with contextlib.suppress(OSError):
            self._file.close()
        self.path.unlink(missing_ok=True)

    def description(self) -> dict[str, Any]:
        """Length and checksum of what was written."""
        return {"bytes": self._bytes, "sha256": self._digest.hexdigest()}
