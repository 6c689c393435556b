"""The records of a run: scalars, one JSON object per line."""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import Any, BinaryIO

from model_build.atomic_write import atomic_file, write_errors

log = logging.getLogger(__name__)


class Records:
    """A file of records, one JSON object per line, each with an int "step".

    An incomplete last line, from a process that was killed, is ignored when reading and removed before the next record
    is written. Reading does not change the file, so the records of a running process can be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None

    def append(self, record: Mapping[str, float | int]) -> None:
        """Appends a record and flushes it. Numbers that are not finite become null, because JSON has no NaN.

        Raises ValueError for a record without an int "step", and WriteError if the file cannot be written.
        """
        if not _has_step(record):
            raise ValueError(f'a record for {self.path} has no int "step": {dict(record)}.')
        with write_errors(self.path):
            if self._file is None:
                self._file = _open_whole(self.path)
            self._file.write(_line(record))
            self._file.flush()

    def cut(self, step: int) -> None:
        """Removes the records after `step`, which a run that resumes at `step` writes again."""
        self.close()
        if not self.path.exists():
            return
        with atomic_file(self.path, "wb") as file:
            file.writelines(_line(record) for record in self.read() if record["step"] <= step)

    def read(self) -> list[dict[str, Any]]:
        """All records in the order of writing, with None for numbers that were not finite; empty without a file.

        A line that is not a record is skipped with a warning.
        """
        if not self.path.exists():
            return []
        records = []
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break
                record = _parsed(line)
                if record is None:
                    log.warning("%s: line %d is not a record and is skipped", self.path, number)
                else:
                    records.append(record)
        return records

    def close(self) -> None:
        """Closes the file; the next `append` opens it again."""
        if self._file is not None:
            # `append` has already raised the error of a failed write; closing would raise it again.
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None


def _has_step(record: object) -> bool:
    return isinstance(record, Mapping) and isinstance(record.get("step"), Integral)


def _line(record: Mapping[str, Any]) -> bytes:
    finite = {name: _number(value) for name, value in record.items()}
    return json.dumps(finite, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _number(value: Any) -> float | int | None:
    """The value as a Python number; None if it is not finite."""
    if value is None:
        return None
    if isinstance(value, Integral):
        return int(value)
    return float(value) if math.isfinite(value) else None


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if _has_step(record) else None


def _open_whole(path: Path) -> BinaryIO:
    """Opens the file for appending, after removing an incomplete last line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("ab")
    file.truncate(path.read_bytes().rfind(b"\n") + 1)
    return file
