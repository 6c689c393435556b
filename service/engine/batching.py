"""Which texts run together: a plain class without I/O, requests in and batches out, the clock given by the caller.

The rules, in the order they apply:
1. cancelled and expired requests leave before they cost anything;
2. the oldest waiting item is in the next batch, so nothing starves;
3. it is joined by its neighbours in length among the `window` oldest items;
4. one joins only where its padding costs less than a run of its own;
5. rows times the longest row stay within `max_batch_tokens`, and rows within `max_batch_items`;
6. a batch is made whenever one is asked for: the device never idles for the sake of a fuller one,
   unless `max_wait` is set.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class BatchingOptions:
    """Limits of a batch; lengths and costs in tokens, `max_wait` in seconds."""

    max_batch_tokens: int = 8192
    max_batch_items: int = 64
    window: int = 512
    overhead_tokens: int = 64
    """Fixed cost of a forward pass, in padded tokens that would take as long."""
    max_wait: float = 0.0


@dataclass(frozen=True)
class Ticket:
    """One waiting item: the request it belongs to, its index there, its length in tokens."""

    request: Hashable
    index: int
    length: int
    arrival: float


@dataclass
class _Request:
    deadline: float | None
    waiting: set[int] = field(default_factory=set)


class Batcher:
    """The queue of one engine."""

    def __init__(self, options: BatchingOptions | None = None) -> None:
        self.options = options or BatchingOptions()
        # Tickets in order of arrival; those of departed requests are skipped when met.
        self._queue: dict[tuple[Hashable, int], Ticket] = {}
        self._requests: dict[Hashable, _Request] = {}
        self.queue_tokens = 0

    @property
    def queue_items(self) -> int:
        """Items waiting."""
        return len(self._queue)

    def add(self, request: Hashable, lengths: Sequence[int], now: float, deadline: float | None = None) -> None:
        """Queues the items of a request; each will be in exactly one batch unless the request leaves."""
        if request in self._requests:
            raise ValueError(f"request {request!r} is queued already.")
        if not lengths:
            raise ValueError(f"request {request!r} has no items.")
        self._requests[request] = _Request(deadline, set(range(len(lengths))))
        for index, length in enumerate(lengths):
            self._queue[request, index] = Ticket(request, index, length, now)
        self.queue_tokens += sum(lengths)

    def cancel(self, request: Hashable) -> None:
        """Takes the waiting items of a request out; unknown requests are none of our business."""
        found = self._requests.pop(request, None)
        for index in found.waiting if found else ():
            self.queue_tokens -= self._queue.pop((request, index)).length

    def expire(self, now: float) -> list[Hashable]:
        """Takes out, and returns, the requests whose deadline has passed while items of them still wait."""
        late = [
            name for name, request in self._requests.items() if request.deadline is not None and request.deadline <= now
        ]
        for request in late:
            self.cancel(request)
        return late

    def due(self) -> float | None:
        """When the next batch may be taken; None while nothing waits."""
        if not self._queue:
            return None
        if self.queue_tokens >= self.options.max_batch_tokens or self.queue_items >= self.options.max_batch_items:
            return float("-inf")
        return next(iter(self._queue.values())).arrival + self.options.max_wait

    def next_batch(self, now: float) -> list[Ticket]:
        """The items of the next batch, shortest first; empty when none is due."""
        due = self.due()
        if due is None or due > now:
            return []
        batch = self._gather(self._window())
        for ticket in batch:
            del self._queue[ticket.request, ticket.index]
            self.queue_tokens -= ticket.length
            waiting = self._requests[ticket.request].waiting
            waiting.discard(ticket.index)
            if not waiting:
                del self._requests[ticket.request]
        return batch

    def _window(self) -> list[Ticket]:
        """The oldest items in order of arrival."""
        return [ticket for ticket, _ in zip(self._queue.values(), range(self.options.window), strict=False)]

    def _gather(self, window: list[Ticket]) -> list[Ticket]:
        """The oldest item with the neighbours in length that are worth their padding."""
        by_length = sorted(range(len(window)), key=lambda place: (window[place].length, place))
        anchor = bisect_left(by_length, (window[0].length, 0), key=lambda place: (window[place].length, place))
        low = high = anchor
        longest = window[0].length
        while True:
            shorter = window[by_length[low - 1]].length if low else None
            longer = window[by_length[high + 1]].length if high + 1 < len(by_length) else None
            rows = high - low + 1
            # Ties go to the longer side: it shortens what is left for later batches.
            choices = [
                (self._added_padding(rows, longest, length), side)
                for side, length in enumerate((longer, shorter))
                if length is not None and self._fits(rows, max(longest, length))
            ]
            if not choices or min(choices)[0] > self.options.overhead_tokens:
                return [window[place] for place in by_length[low : high + 1]]
            if min(choices)[1] == 0:
                high += 1
                longest = max(longest, longer or 0)
            else:
                low -= 1

    def _fits(self, rows: int, longest: int) -> bool:
        """Whether one more row keeps the batch within its limits."""
        return rows < self.options.max_batch_items and (rows + 1) * longest <= self.options.max_batch_tokens

    @staticmethod
    def _added_padding(rows: int, longest: int, length: int) -> int:
        """Padded tokens that a row of `length` adds beyond its own, to a batch of `rows` rows of `longest`."""
        return (rows + 1) * max(longest, length) - rows * longest - length
