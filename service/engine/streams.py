"""Forward passes beside each other: each on a thread, and what it gives comes back to the engine's loop."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from service.engine.messages import Item, Output
from service.engine.tensors import OutputError

Forward = Callable[[Sequence[Item], int], list[Output]]
"""items and the number of a stream to their outputs"""
FAILURES = OutputError, RuntimeError, ValueError
"""what a forward pass may raise that the engine survives"""


@dataclass(eq=False)
class Pass:
    """One forward pass, over or still running; `of` is whatever its caller wants to know it by."""

    items: Sequence[Item]
    of: Any
    stream: int
    began: float
    result: Future[list[Output]] = field(default_factory=Future)


class Streams:
    """As many passes at a time as the runtime has streams. All but `forward` is called from one thread."""

    def __init__(self, forward: Forward, count: int) -> None:
        self._forward = forward
        self._idle = list(range(count))
        self._threads = ThreadPoolExecutor(count, "pass") if count > 1 else None
        self._over: deque[Pass] = deque()
        self.running: set[Pass] = set()
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)

    def fileno(self) -> int:
        """Readable when a pass is over."""
        return self._reading

    @property
    def idle(self) -> int:
        """How many more passes may be started."""
        return len(self._idle)

    def start(self, items: Sequence[Item], of: Any, now: float) -> Pass:
        """Begins a pass on an idle stream; `over` will give it back.

        A single stream has no thread: there is nothing to be done beside it, and FastDeploy holds the GIL anyway.
        """
        begun = Pass(items, of, self._idle.pop(), now)
        self.running.add(begun)
        if self._threads:
            begun.result = self._threads.submit(self._forward, items, begun.stream)
        else:
            _run(begun.result, self._forward, items, begun.stream)
        begun.result.add_done_callback(lambda _: self._end(begun))
        return begun

    def over(self) -> Iterator[Pass]:
        """Passes that have ended since the last call, their streams idle again."""
        try:
            os.read(self._reading, 4096)
        except BlockingIOError:
            return
        while self._over:
            ended = self._over.popleft()
            self.running.discard(ended)
            self._idle.append(ended.stream)
            yield ended

    def _end(self, ended: Pass) -> None:
        self._over.append(ended)
        os.write(self._writing, b".")

    def close(self) -> None:
        """Ends the threads; nothing may be running."""
        if self._threads:
            self._threads.shutdown()
        os.close(self._reading)
        os.close(self._writing)


def _run(result: Future[list[Output]], forward: Forward, items: Sequence[Item], stream: int) -> None:
    try:
        result.set_result(forward(items, stream))
    except FAILURES as error:
        result.set_exception(error)
