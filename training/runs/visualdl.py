"""Scalars of a run for VisualDL."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


EARLIER = 5000
"""Largest number of earlier records per group that are rewritten: 3 s at ten scalars each; VisualDL draws 1,000
points per curve."""


class VisualDL:
    """Shows records in VisualDL: `visualdl --logdir FOLDER`. Tags are "group/name", such as "train/loss".

    Files of earlier starts are removed, and `earlier`, the records by group, are written again: VisualDL shows only the
    newest file of a folder, so a resumed run would lose the beginning of its curves or show steps twice. Of more than
    `EARLIER` records only every second, third, … is written, and the last one. Without the package visualdl nothing is
    written, and a warning is logged.
    """

    def __init__(self, folder: Path, earlier: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        self._writer: Any = None
        try:
            # visualdl raises a TypeError when protobuf is newer than the code generated for it.
            from visualdl import LogWriter  # type: ignore[import-untyped]
        except (ImportError, TypeError) as error:
            log.warning("no curves for VisualDL, because it cannot be imported: %s", str(error).split("\n")[0])
            return
        for file in folder.glob("*vdlrecords*"):
            file.unlink()
        self._writer = LogWriter(str(folder))
        for group, records in earlier.items():
            for record in reversed(records[:: -max(1, -(-len(records) // EARLIER))]):
                self.append(group, record)

    def append(self, group: str, record: Mapping[str, Any]) -> None:
        """Writes the finite numbers of a record; VisualDL flushes them within ten seconds."""
        if self._writer is None:
            return
        for name, value in record.items():
            if name != "step" and value is not None and math.isfinite(value):
                self._writer.add_scalar(f"{group}/{name}", value, int(record["step"]))

    def close(self) -> None:
        """Flushes and closes the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
