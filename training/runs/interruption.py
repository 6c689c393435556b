"""Interruption of runs by SIGTERM or SIGINT: the current step is finished and saved first."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


class InterruptedRun(KeyboardInterrupt):
    """A run that stopped on a signal; its checkpoint was written."""


class _StopHandler:
    """The signal handler, and the event that it sets."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def __call__(self, number: int, frame: object) -> None:
        self.event.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def interruption() -> Iterator[threading.Event]:
    """An event that is set by SIGTERM and by the first SIGINT; a second SIGINT raises KeyboardInterrupt.

    Inside another `interruption` it is the event of the outer one.
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
