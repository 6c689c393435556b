"""Progress of long work: a bar with rate and time left on a terminal, plain log lines otherwise."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType

from tqdm import tqdm

log = logging.getLogger(__name__)

EVERY_SECONDS = 10.0


class Progress:
    """Counts bytes up to `total`; `done` of them were there before. A context manager."""

    def __init__(self, name: str, total: int, done: int = 0) -> None:
        self.name, self.total, self.before, self.done = name, total, done, done
        self._begun = self._told = time.monotonic()
        self._bar = (
            tqdm(desc=name, total=total, initial=done, unit="B", unit_scale=True, dynamic_ncols=True)
            if sys.stderr.isatty()
            else None
        )

    def add(self, amount: int) -> None:
        """Counts `amount` more bytes."""
        self.done += amount
        if self._bar is not None:
            self._bar.update(amount)
        elif (now := time.monotonic()) - self._told >= EVERY_SECONDS:
            self._told = now
            self._tell(now - self._begun)

    def _tell(self, seconds: float) -> None:
        rate = (self.done - self.before) / seconds
        left = (self.total - self.done) / rate if rate else float("nan")
        log.info(
            "%s: %.0f of %.0f MB, %.1f MB/s, %.0f s left",
            self.name, self.done / 1e6, self.total / 1e6, rate / 1e6, left,
        )  # fmt: skip

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
