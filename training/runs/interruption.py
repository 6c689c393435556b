"""Runs that end when they are asked to, with what they have on the disk."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


class InterruptedRun(KeyboardInterrupt):
    """A run that was asked to stop; its checkpoint is written."""


class _StopHandler:
    """The handler of the signals, with what it sets."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def __call__(self, number: int, frame: object) -> None:
        self.event.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def interruption() -> Iterator[threading.Event]:
    """An event that SIGTERM and the first SIGINT set, so that the step under way is finished and saved.

    Within another `interruption` it is the event of that one.
    """
    around = signal.getsignal(signal.SIGTERM)
    if isinstance(around, _StopHandler):
        yield around.event
        return
    asked = _StopHandler()
    if threading.current_thread() is not threading.main_thread():
        yield asked.event
        return
    before = {number: signal.signal(number, asked) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked.event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
