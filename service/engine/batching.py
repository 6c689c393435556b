"""Which texts run together: a plain class without I/O. Requests in, batches out; the caller passes the time.

The rules, in the order in which they apply:
1. Cancelled and expired requests leave the queue before they cost anything.
2. An interactive item is urgent from its arrival, an item of priority `batch` from `ageing` seconds later. Items that
   are not urgent yet run only when the queue has no urgent one.
3. The item that has been urgent longest (or will be first) is in the next batch. So no item waits forever: at most one
   batch runs before it for each item that became urgent before it. Later items cannot delay it.
4. Its neighbours in length among the next `window` items may join it.
5. A neighbour joins only if its padding costs less than a separate run.
6. Rows times the longest row stay within `max_batch_tokens`, and rows within `max_batch_items`. A batch without urgent
   items stays within `background_batch_tokens`, because an interactive request may arrive while it runs.
7. Every call of `next_batch` returns a batch if there are items: the device never waits for a fuller batch, unless
   `max_wait` is set.
8. If the runtime needs few shapes, a batch is cut to the largest shape that its items fill.
9. If several streams are idle, a batch takes at most its share of the queue, because the streams run concurrently.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from operator import attrgetter

from service.engine.shapes import AnyShape, Shapes
from service.messages.inference import Priority
from service.messages.launch import BatchingOptions


@dataclass(frozen=True)
class Ticket:
    """One queued item: its request, its index in the request, its length in tokens."""

    request: Hashable
    index: int
    length: int
    arrival: float
    priority: Priority
    urgent_from: float


@dataclass
class _Request:
    priority: Priority
    deadline: float | None
    waiting: set[int] = field(default_factory=set)


class Batcher:
    """The queue of one engine."""

    def __init__(self, options: BatchingOptions | None = None, shapes: Shapes | None = None) -> None:
        self.options = options or BatchingOptions()
        self.shapes = shapes or AnyShape()
        # Tickets by priority, in order of arrival, which is also the order in which they become urgent.
        self._queues: dict[Priority, dict[tuple[Hashable, int], Ticket]] = {"batch": {}, "interactive": {}}
        self._requests: dict[Hashable, _Request] = {}
        self.queue_tokens = 0

    @property
    def queue_items(self) -> int:
        """Number of queued items."""
        return sum(map(len, self._queues.values()))

    def add(
        self,
        request: Hashable,
        lengths: Sequence[int],
        now: float,
        deadline: float | None = None,
        priority: Priority = "interactive",
    ) -> None:
        """Queues the items of a request. Each will be in exactly one batch, unless the request leaves the queue."""
        if request in self._requests:
            raise ValueError(f"request {request!r} is queued already.")
        if not lengths:
            raise ValueError(f"request {request!r} has no items.")
        self._requests[request] = _Request(priority, deadline, set(range(len(lengths))))
        urgent_from = now if priority == "interactive" else now + self.options.ageing
        for index, length in enumerate(lengths):
            self._queues[priority][request, index] = Ticket(request, index, length, now, priority, urgent_from)
        self.queue_tokens += sum(lengths)

    def cancel(self, request: Hashable) -> None:
        """Removes the queued items of a request, if there are any."""
        found = self._requests.pop(request, None)
        for index in found.waiting if found else ():
            assert found
            self.queue_tokens -= self._queues[found.priority].pop((request, index)).length

    def expire(self, now: float) -> list[Hashable]:
        """Removes and returns the requests with queued items whose deadline has passed."""
        late = [
            name for name, request in self._requests.items() if request.deadline is not None and request.deadline <= now
        ]
        for request in late:
            self.cancel(request)
        return late

    def due(self) -> float | None:
        """When the next batch may be taken; None if the queue is empty."""
        arrivals = [ticket.arrival for queue in self._queues.values() for ticket in islice(queue.values(), 1)]
        if not arrivals:
            return None
        if self.queue_tokens >= self.options.max_batch_tokens or self.queue_items >= self.options.max_batch_items:
            return float("-inf")
        return min(arrivals) + self.options.max_wait

    def next_batch(self, now: float, streams: int = 1) -> list[Ticket]:
        """The items of the next batch, shortest first; empty if no batch is due. `streams`: number of idle streams."""
        due = self.due()
        if due is None or due > now:
            return []
        most = self.options.max_batch_tokens
        if streams > 1:
            most = min(most, -(-self.queue_tokens // streams))
        urgent = takewhile(lambda ticket: ticket.urgent_from <= now, self._by_urgency())
        if window := list(islice(urgent, self.options.window)):
            batch = self._gather(window, most)
        else:
            window = list(islice(self._by_urgency(), self.options.window))
            batch = self._gather(window, min(most, self.options.background_batch_tokens))
        for ticket in batch:
            self._take(ticket)
        return batch

    def _by_urgency(self) -> Iterator[Ticket]:
        """All queued items in the order in which they become urgent; at equal times, priority `batch` comes first."""
        return heapq.merge(*(queue.values() for queue in self._queues.values()), key=attrgetter("urgent_from"))

    def _take(self, ticket: Ticket) -> None:
        del self._queues[ticket.priority][ticket.request, ticket.index]
        self.queue_tokens -= ticket.length
        waiting = self._requests[ticket.request].waiting
        waiting.discard(ticket.index)
        if not waiting:
            del self._requests[ticket.request]

    def _gather(self, window: list[Ticket], max_tokens: int) -> list[Ticket]:
        """The first item, with those neighbours in length whose padding is cheap enough."""
        by_length = sorted(range(len(window)), key=lambda place: (window[place].length, place))
        anchor = bisect_left(by_length, (window[0].length, 0), key=lambda place: (window[place].length, place))
        low = high = anchor
        padded = self.shapes.length
        longest = padded(window[0].length)
        while True:
            shorter = window[by_length[low - 1]].length if low else None
            longer = padded(window[by_length[high + 1]].length) if high + 1 < len(by_length) else None
            rows = high - low + 1
            # At equal cost the longer item joins; the shorter ones remain for later batches.
            choices = [
                (self._added_padding(rows, longest, length), side)
                for side, length in enumerate((longer, shorter))
                if length is not None
                and rows < self.options.max_batch_items
                and (rows + 1) * max(longest, length) <= max_tokens
            ]
            if not choices or min(choices)[0] > self.options.overhead_tokens:
                rows = self.shapes.rows(high - low + 1)
                low = max(low, anchor - rows + 1)
                return [window[place] for place in by_length[low : low + rows]]
            if min(choices)[1] == 0:
                high += 1
                longest = max(longest, longer or 0)
            else:
                low -= 1

    @staticmethod
    def _added_padding(rows: int, longest: int, length: int) -> int:
        """Padding tokens that a row of `length` adds to a batch of `rows` rows of `longest` tokens."""
        return (rows + 1) * max(longest, length) - rows * longest - length
