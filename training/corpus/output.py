"""Binary output files that are written sequentially and hashed; write errors name the file."""

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
"""Size of the write buffer in bytes, and of the blocks read back in numbers."""


class Output:
    """A file that is written once, sequentially, and hashed while it is written (`hashed`)."""

    def __init__(self, path: Path, *, hashed: bool = True) -> None:
        self.path = path
        self._hashed = hashed
        self._bytes, self._digest = 0, hashlib.sha256()
        with write_errors(path):
            self._file = path.open("wb", buffering=BLOCK)

    def write(self, data: np.ndarray | bytes) -> None:
        """Appends bytes, or the bytes of a contiguous array. Raises WriteError."""
        view = memoryview(data.data if isinstance(data, np.ndarray) else data)
        view = view.cast("B") if view.nbytes else memoryview(b"")
        with write_errors(self.path):
            self._file.write(view)
        if self._hashed:
            self._digest.update(view)
        self._bytes += view.nbytes

    def blocks(self, dtype: str) -> Iterator[np.ndarray]:
        """The numbers written so far, in blocks."""
        with write_errors(self.path):
            self._file.flush()
        with self.path.open("rb") as file:
            while len(block := np.fromfile(file, dtype, BLOCK)):
                yield block

    def close(self) -> None:
        """Closes the file after syncing it to the disk."""
        with write_errors(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def discard(self) -> None:
        """Closes the file, and removes it if it was not renamed."""
        # On a full disk the flush inside close() fails too; the file is removed anyway.
        with contextlib.suppress(OSError):
            self._file.close()
        self.path.unlink(missing_ok=True)

    def description(self) -> dict[str, Any]:
        """Length in bytes and SHA-256 of what was written."""
        return {"bytes": self._bytes, "sha256": self._digest.hexdigest()}
