"""Which texts run together: a plain class without I/O, requests in and batches out, the clock given by the caller.

The rules, in the order they apply:
1. cancelled and expired requests leave before they cost anything;
2. an item is urgent from its arrival if it is interactive, and `ageing` seconds later if it is of the batch priority;
   items that are not urgent yet run only when no urgent one waits;
3. the item that is (or will be) urgent longest is in the next batch, so nothing starves: an item waits for no more
   batches than there are items urgent before it, whatever arrives later;
4. it is joined by its neighbours in length among the `window` items that come next;
5. one joins only where its padding costs less than a run of its own;
6. rows times the longest row stay within `max_batch_tokens`, and rows within `max_batch_items`; a batch of nothing
   urgent stays within `background_batch_tokens`, because an interactive request may come while it runs;
7. a batch is made whenever one is asked for: the device never idles for the sake of a fuller one,
   unless `max_wait` is set;
8. where the runtime wants few shapes, a batch is as large as the largest of them that what was gathered fills;
9. where several streams are idle, a batch takes no more than its share of what waits, for they run beside each other.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from operator import attrgetter
from typing import Literal

from service.engine.shapes import AnyShape, Shapes

Priority = Literal["interactive", "batch"]


@dataclass(frozen=True)
class BatchingOptions:
    """Limits of a batch; lengths and costs in tokens, `max_wait` in seconds."""

    max_batch_tokens: int = 8192
    max_batch_items: int = 64
    window: int = 512
    overhead_tokens: int = 16
    """Fixed cost of a forward pass, in padded tokens that would take as long; measured by `benchmarks.packing`."""
    max_wait: float = 0.0
    ageing: float = 2.0
    """How long batch work gives way to interactive work, in seconds; from then on it is interactive itself."""
    background_batch_tokens: int = 2048


@dataclass(frozen=True)
class Ticket:
    """One waiting item: the request it belongs to, its index there, its length in tokens."""

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
        # Tickets by priority, each in order of arrival, which is the order in which they become urgent.
        self._queues: dict[Priority, dict[tuple[Hashable, int], Ticket]] = {"batch": {}, "interactive": {}}
        self._requests: dict[Hashable, _Request] = {}
        self.queue_tokens = 0

    @property
    def queue_items(self) -> int:
        """Items waiting."""
        return sum(map(len, self._queues.values()))

    def add(
        self,
        request: Hashable,
        lengths: Sequence[int],
        now: float,
        deadline: float | None = None,
        priority: Priority = "interactive",
    ) -> None:
        """Queues the items of a request; each will be in exactly one batch unless the request leaves."""
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
        """Takes the waiting items of a request out; unknown requests are none of our business."""
        found = self._requests.pop(request, None)
        for index in found.waiting if found else ():
            assert found
            self.queue_tokens -= self._queues[found.priority].pop((request, index)).length

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
        arrivals = [ticket.arrival for queue in self._queues.values() for ticket in islice(queue.values(), 1)]
        if not arrivals:
            return None
        if self.queue_tokens >= self.options.max_batch_tokens or self.queue_items >= self.options.max_batch_items:
            return float("-inf")
        return min(arrivals) + self.options.max_wait

    def next_batch(self, now: float, streams: int = 1) -> list[Ticket]:
        """The items of the next batch, shortest first; empty when none is due. `streams` could take one now."""
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
        """Every waiting item, the one that is urgent first coming first; of two, the one of the batch priority."""
        return heapq.merge(*(queue.values() for queue in self._queues.values()), key=attrgetter("urgent_from"))

    def _take(self, ticket: Ticket) -> None:
        del self._queues[ticket.priority][ticket.request, ticket.index]
        self.queue_tokens -= ticket.length
        waiting = self._requests[ticket.request].waiting
        waiting.discard(ticket.index)
        if not waiting:
            del self._requests[ticket.request]

    def _gather(self, window: list[Ticket], max_tokens: int) -> list[Ticket]:
        """The first item with the neighbours in length that are worth their padding."""
        by_length = sorted(range(len(window)), key=lambda place: (window[place].length, place))
        anchor = bisect_left(by_length, (window[0].length, 0), key=lambda place: (window[place].length, place))
        low = high = anchor
        padded = self.shapes.length
        longest = padded(window[0].length)
        while True:
            shorter = window[by_length[low - 1]].length if low else None
            longer = padded(window[by_length[high + 1]].length) if high + 1 < len(by_length) else None
            rows = high - low + 1
            # Ties go to the longer side: it shortens what is left for later batches.
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
        """Padded tokens that a row of `length` adds beyond its own, to a batch of `rows` rows of `longest`."""
        return (rows + 1) * max(longest, length) - rows * longest - length
