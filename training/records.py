"""The scalars of a run: a line of JSON for every record, and a mirror of them for VisualDL."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, BinaryIO

from training.corpus.output import naming

log = logging.getLogger(__name__)

EARLIER = 5000
"""Records of a group that are written anew for VisualDL: 3 s at ten scalars each; it draws 1,000 points of a curve."""


class Records:
    """A file of records, one JSON object a line, each with an int "step"; only whole lines count.

    A line that a kill cut off is left out when reading and removed before the next record is written. Opening a file
    does not touch it, so the records of a run that is going on can be read by others.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None

    def append(self, record: Mapping[str, float | int]) -> None:
        """Writes a record and hands it to the system. What is not finite becomes null, for JSON has no NaN.

        Raises ValueError for a record without an int "step", and CorpusError naming the file that cannot be written.
        """
        if not _has_step(record):
            raise ValueError(f'a record for {self.path} has no int "step": {dict(record)}.')
        with naming(self.path):
            if self._file is None:
                self._file = _open_whole(self.path)
            self._file.write(_line(record))
            self._file.flush()

    def cut(self, step: int) -> None:
        """Drops the records beyond `step`, which a run resumed at `step` makes again."""
        self.close()
        if not self.path.exists():
            return
        part = self.path.with_name(self.path.name + ".part")
        with naming(self.path), part.open("wb") as file:
            file.writelines(_line(record) for record in self.read() if record["step"] <= step)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self.path)

    def read(self) -> list[dict[str, Any]]:
        """All records in the order of writing, None where a number was not finite; none when there is no file.

        A line that is no record is left out, with a warning that names it.
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
                    log.warning("%s: line %d is no record and is left out", self.path, number)
                else:
                    records.append(record)
        return records

    def close(self) -> None:
        """Closes the file; the next `append` opens it again."""
        if self._file is not None:
            # What could not be written has been told by `append`; closing tries it once more.
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None


def _has_step(record: object) -> bool:
    return isinstance(record, Mapping) and isinstance(record.get("step"), Integral)


def _line(record: Mapping[str, Any]) -> bytes:
    finite = {name: _number(value) for name, value in record.items()}
    return json.dumps(finite, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _number(value: Any) -> float | int | None:
    """A Python number of whatever counts as one, NumPy's included; None where it is not finite."""
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
    """Opens for appending, behind the last whole line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("ab")
    file.truncate(path.read_bytes().rfind(b"\n") + 1)
    return file


class VisualDL:
    """Shows records in VisualDL: `visualdl --logdir FOLDER`. Tags are "group/name", such as "train/loss".

    Files of earlier starts are removed and `earlier`, the records by group, are written anew: VisualDL shows only the
    newest file of a folder, and a resumed run would otherwise lose the beginning of its curves or show steps twice.
    Where there are more than `EARLIER` of them, every second, third, … is written, and the last.
    Without the package visualdl nothing is shown, and the log says so.
    """

    def __init__(self, folder: Path, earlier: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        self._writer: Any = None
        try:
            # visualdl raises a TypeError when protobuf is newer than the code generated for it.
            from visualdl import LogWriter  # type: ignore[import-untyped]
        except (ImportError, TypeError) as error:
            log.warning("no curves in VisualDL, for it cannot be imported: %s", str(error).split("\n")[0])
            return
        for file in folder.glob("*vdlrecords*"):
            file.unlink()
        self._writer = LogWriter(str(folder))
        for group, records in earlier.items():
            for record in reversed(records[:: -max(1, -(-len(records) // EARLIER))]):
                self.append(group, record)

    def append(self, group: str, record: Mapping[str, Any]) -> None:
        """Writes the finite numbers of a record; they are on the disk within ten seconds."""
        if self._writer is None:
            return
        for name, value in record.items():
            if name != "step" and value is not None and math.isfinite(value):
                self._writer.add_scalar(f"{group}/{name}", value, int(record["step"]))

    def close(self) -> None:
        """Ends the file; everything is on the disk when this returns."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
