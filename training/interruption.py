"""Runs that end when they are asked to, with what they have on the disk."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


class InterruptedRun(KeyboardInterrupt):
    """A run that was asked to stop; its checkpoint is written."""


@contextlib.contextmanager
def interruption() -> Iterator[threading.Event]:
    """An event that SIGTERM and the first SIGINT set, so that the step under way is finished and saved."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def asked(number: int, frame: object) -> None:
        event.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, asked) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
