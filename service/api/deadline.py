"""A time limit for a block of code."""

from __future__ import annotations

import asyncio
from typing import Any


class Deadline:
    """Ends the block with asyncio.TimeoutError after `seconds`. Unlike asyncio.wait_for it creates no task."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._expired = False

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        self._timer = loop.call_later(self._seconds, self._expire, task)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._timer.cancel()
        if self._expired and kind is asyncio.CancelledError:
            raise asyncio.TimeoutError from None

    def _expire(self, task: asyncio.Task[Any]) -> None:
        self._expired = task.cancel()
