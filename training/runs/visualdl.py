"""A mirror of a run's records for VisualDL."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


EARLIER = 5000
"""Records of a group that are written anew for VisualDL: 3 s at ten scalars each; it draws 1,000 points of a curve."""


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
