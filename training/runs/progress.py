"""Progress of long work: a bar with rate and remaining time on a terminal, otherwise log lines."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType

from tqdm import tqdm

log = logging.getLogger(__name__)

EVERY_SECONDS = 10.0


class Progress:
    """Counts bytes, or another `unit`, up to `total`; `done` of them were finished before. A context manager."""

    def __init__(self, name: str, total: int, done: int = 0, *, unit: str = "B") -> None:
        self.name, self.total, self.before, self.done, self.unit = name, total, done, done, unit
        self._begun = self._reported = time.monotonic()
        self._bar = (
            tqdm(desc=name, total=total, initial=done, unit=unit, unit_scale=unit == "B", dynamic_ncols=True)
            if sys.stderr.isatty()
            else None
        )

    def add(self, amount: int, note: str = "") -> None:
        """Counts `amount` more; `note`, such as the current loss, is shown after the count."""
        self.done += amount
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(amount)
        elif (now := time.monotonic()) - self._reported >= EVERY_SECONDS:
            self._reported = now
            self._report(now - self._begun, note)

    def _report(self, seconds: float, note: str) -> None:
        rate = (self.done - self.before) / seconds
        left = (self.total - self.done) / rate if rate else float("nan")
        scale, unit = (1e6, "MB") if self.unit == "B" else (1, f"{self.unit}s")
        log.info(
            "%s: %.0f of %.0f %s, %.1f %s/s, %.0f s left%s",
            self.name, self.done / scale, self.total / scale, unit, rate / scale, unit, left, note and f"; {note}",
        )  # fmt: skip

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
