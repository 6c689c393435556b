"""The logic of an engine: takes messages and results, returns passes and messages. It has no socket, thread or clock.

A client is any hashable object that identifies a connection of the loop. A failed batch is split into halves that run
again, until the item that makes it fail is alone. A request with a suspect (engine/quarantine.py) runs item by item,
and no other pass runs at the same time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from service.engine.batching import Batcher, Ticket
from service.engine.lone import LonePasses
from service.engine.quarantine import Quarantine
from service.engine.tensors import InvalidItem, Tensors
from service.messages.inference import (
    Alive,
    BatchDone,
    Cancel,
    Failed,
    Infer,
    Inferred,
    Item,
    Output,
    Probe,
    Started,
    ToApi,
)

# Shortest time between BatchDone messages: waking the supervisor after each pass took a quarter of a short pass.
REPORT_SECONDS = 0.05
LATE = "the deadline passed while the request was in the queue."
REFUSED = "a text of this request ended the engine earlier, so the model does not run it again; leave it out."


@dataclass(eq=False)
class _Pending:
    """A request with items that have no output yet."""

    client: Hashable
    message: Infer
    sent: float
    outputs: list[Output | None]
    started: float | None = None


Batch = list[tuple[Ticket, _Pending]]


@dataclass(eq=False)
class Pass:
    """A forward pass. A pass without a batch only checks that the graph still runs."""

    items: Sequence[Item]
    batch: Batch | None
    started: float = 0.0
    alone: bool = False
    """Whether no request is likely to arrive while it runs."""
    apart: bool = False
    """Whether no other pass may run at the same time."""

    @property
    def tokens(self) -> int:
        """Number of tokens with padding, but without the padding that shapes add."""
        return len(self.items) * max(len(item.input_ids) for item in self.items)


@dataclass(eq=False)
class _Check:
    """A probe that is answered when the `awaited` passes have finished."""

    client: Hashable
    awaited: set[Pass]


class EngineCore:
    """The requests of an engine, from their arrival to their results."""

    def __init__(
        self, tensors: Tensors, batcher: Batcher, streams: int, now: float, quarantine: Quarantine | None = None
    ) -> None:
        """`streams` passes may run at the same time."""
        self._tensors = tensors
        self._quarantine = quarantine or Quarantine(None, streams, batcher.options.max_batch_items)
        self._batcher = batcher
        self._streams = streams
        self._pending: dict[tuple[Hashable, int], _Pending] = {}
        self._running: set[Pass] = set()
        self._halves: deque[Batch] = deque()
        """Halves of failed batches; they run first."""
        self._apart: deque[Batch] = deque()
        """Items of requests with a suspect."""
        self._was_apart = False
        """Whether the pass that finished last ran apart."""
        self._check_passes: deque[Pass] = deque()
        """Passes that run only for a probe."""
        self._checks: list[_Check] = []
        self._watchers: set[Hashable] = set()
        """Clients that have sent a probe; they receive BatchDone."""
        self._reports: list[BatchDone] = []
        self._reported = now
        self._messages: list[tuple[Hashable, ToApi]] = []
        self._last_run = now
        self._lone = LonePasses()
        self.stopping = False
        """Whether the engine ends when its queue is empty."""

    # Messages

    def receive(self, client: Hashable, message: Infer | Cancel | Probe, now: float) -> None:
        """Handles one message of a client."""
        if isinstance(message, Probe):
            self._probe(client, message, now)
        elif isinstance(message, Cancel):
            self._batcher.cancel((client, message.id))
            self._pending.pop((client, message.id), None)
        else:
            self._enqueue(client, message, now)

    def disconnect(self, client: Hashable) -> None:
        """Drops the requests of a client that has disconnected."""
        self._watchers.discard(client)
        self._checks = [check for check in self._checks if check.client is not client]
        for key in [key for key in self._pending if key[0] is client]:
            self._batcher.cancel(key)
            del self._pending[key]

    def take_messages(self, now: float) -> list[tuple[Hashable, ToApi]]:
        """Returns and removes the messages to send now, each with its client."""
        if self._reports and (self.stopping or now - self._reported >= REPORT_SECONDS):
            self._send_reports(now)
        messages, self._messages = self._messages, []
        return messages

    def _send(self, client: Hashable, message: ToApi) -> None:
        self._messages.append((client, message))

    def _send_reports(self, now: float) -> None:
        self._reported = now
        for client in self._watchers:
            self._messages += [(client, report) for report in self._reports]
        self._reports.clear()

    def _enqueue(self, client: Hashable, message: Infer, now: float) -> None:
        key = (client, message.id)
        try:
            if key in self._pending or not message.items:
                raise InvalidItem("a request must have items, and an id that no other request in work has.")
            for item in message.items:
                self._tensors.check(item)
        except InvalidItem as error:
            self._send(client, Failed(message.id, "invalid_input", str(error)))
            return
        if self._quarantine.refuses(message.items):
            self._send(client, Failed(message.id, "refused_input", REFUSED))
            return
        sent = now if message.sent is None else min(message.sent, now)
        if self._running or sent < self._last_run:
            self._lone.interrupted()
        pending = self._pending[key] = _Pending(client, message, sent, [None] * len(message.items))
        lengths = [len(item.input_ids) for item in message.items]
        if self._quarantine.suspects_any(message.items):
            tickets = (Ticket(key, *each, now, message.priority, now) for each in enumerate(lengths))
            self._apart += [[(ticket, pending)] for ticket in tickets]
        else:
            self._batcher.add(key, lengths, now, message.deadline, message.priority)

    def _probe(self, client: Hashable, probe: Probe, now: float) -> None:
        """Answers after the running passes, so that a hanging stream is detected; without running passes, at once."""
        self._watchers.add(client)
        check = _Check(client, set(self._running))
        if not check.awaited and now - self._last_run > probe.max_age_seconds:
            self._check_passes.append(Pass(self._tensors.example(1, 1), None))
            check.awaited.add(self._check_passes[-1])
        self._checks.append(check)
        self._answer_checks(now)

    def _answer_checks(self, now: float) -> None:
        done = [check for check in self._checks if not check.awaited]
        if done and self._reports:
            self._send_reports(now)  # they describe the queue at an earlier time
        for check in done:
            self._checks.remove(check)
            self._send(check.client, Alive(self._batcher.queue_items, self._batcher.queue_tokens))

    # Passes

    @property
    def idle(self) -> bool:
        """Whether there are no requests and no running passes."""
        return not (self._pending or self._running)

    def timeout(self, now: float) -> float | None:
        """Seconds until there is work even if no message arrives; None: no such time."""
        if self._blocked:
            return REPORT_SECONDS
        if self._halves or self._check_passes or self._apart:
            return 0.0
        due = self._batcher.due()
        waits = [] if due is None else [max(0.0, due - now)]
        if self._running or self._reports:
            waits.append(REPORT_SECONDS)
        return min(waits, default=None)

    @property
    def again(self) -> bool:
        """Whether a pass is due without a new message."""
        return bool(self._halves or self._apart or self._was_apart)

    @property
    def _blocked(self) -> bool:
        """Whether the next pass must wait until the running passes finish."""
        return any(each.apart for each in self._running) or bool(self._apart and self._running)

    def start_pass(self, now: float) -> Pass | None:
        """The next pass, or None. The caller runs it and then calls `finish_pass`."""
        if started := self._next_pass(now):
            started.started = now
            started.alone = self._lone.expected(started.tokens) and not (self._running or self._batcher.queue_items)
            self._running.add(started)
        return started

    def _next_pass(self, now: float) -> Pass | None:
        if self._blocked:
            return None
        while self._apart:
            if started := self._next_apart(self._apart.popleft(), now):
                return started
        while self._halves:
            if batch := [(ticket, request) for ticket, request in self._halves.popleft() if self._is_pending(request)]:
                return _pass_of(batch)
        if self._check_passes:
            return self._check_passes.popleft()
        if self._batcher.queue_items:
            for key in self._batcher.expire(now):
                self._fail(key, "deadline_exceeded", LATE)
        tickets = self._batcher.next_batch(now, self._streams - len(self._running))
        if not tickets:
            return None
        batch = [(ticket, self._pending[ticket.request]) for ticket in tickets]  # type: ignore[index]
        self._announce(batch, now)
        return _pass_of(batch)

    def _next_apart(self, batch: Batch, now: float) -> Pass | None:
        [(ticket, request)] = batch
        if not self._is_pending(request):
            return None
        if request.message.deadline is not None and request.message.deadline <= now:
            self._fail(ticket.request, "deadline_exceeded", LATE)
            return None
        self._announce(batch, now)
        return Pass([request.message.items[ticket.index]], batch, apart=True)

    def _announce(self, batch: Batch, now: float) -> None:
        """Reports to the clients which of their requests fail if the engine stops now."""
        ids: dict[Hashable, list[int]] = {}
        for request in dict.fromkeys(request for _, request in batch):
            request.started = now if request.started is None else request.started
            ids.setdefault(request.client, []).append(request.message.id)
        for client, numbers in ids.items():
            self._send(client, Started(numbers))

    def finish_pass(self, finished: Pass, outcome: list[Output] | Exception, now: float) -> None:
        """Records the outputs of a pass, one for each item, or its error.

        Raises the error of a pass without a batch, because then the graph no longer runs.
        """
        self._running.discard(finished)
        self._was_apart = finished.apart
        if finished.apart:
            self._quarantine.clear(finished.items)
        for check in self._checks:
            check.awaited.discard(finished)
        if isinstance(outcome, list):
            self._last_run = now
            self._lone.finished(now - finished.started, finished.tokens)
            if finished.batch is not None:
                self._deliver(finished.batch, outcome, now - finished.started, now)
        elif finished.batch is None:
            raise RuntimeError(str(outcome)) from outcome
        else:
            self._bisect(finished.batch, outcome)
        self._answer_checks(now)

    def _bisect(self, batch: Batch, error: Exception) -> None:
        """Splits a failed batch into halves, which run again. If an item fails alone, its request fails."""
        if len(batch) > 1:
            half = len(batch) // 2
            self._halves += [batch[:half], batch[half:]]
            return
        [(ticket, request)] = batch
        if self._is_pending(request):
            self._batcher.cancel(ticket.request)
            self._fail(ticket.request, "engine_failed", f"the forward pass failed: {error}")

    def _is_pending(self, request: _Pending) -> bool:
        return self._pending.get((request.client, request.message.id)) is request

    def _deliver(self, batch: Batch, outputs: list[Output], seconds: float, now: float) -> None:
        for (ticket, request), output in zip(batch, outputs, strict=True):
            # The request may have been cancelled, or its client may have disconnected.
            if self._is_pending(request):
                request.outputs[ticket.index] = output
                if None not in request.outputs:
                    self._answer(ticket.request, request, now)
        lengths = [ticket.length for ticket, _ in batch]
        queue = self._batcher.queue_items, self._batcher.queue_tokens
        padded = len(batch) * self._tensors.columns(max(lengths))
        self._reports.append(BatchDone(len(batch), sum(lengths), padded, seconds, *queue))

    def _answer(self, key: Any, request: _Pending, now: float) -> None:
        outputs = [output for output in request.outputs if output is not None]
        started = request.sent if request.started is None else request.started
        self._send(request.client, Inferred(request.message.id, outputs, started - request.sent, now - started))
        del self._pending[key]

    def _fail(self, key: Any, code: Any, message: str) -> None:
        client, request_id = key
        self._send(client, Failed(request_id, code, message))
        self._pending.pop(key, None)


def _pass_of(batch: Batch) -> Pass:
    return Pass([request.message.items[ticket.index] for ticket, request in batch], batch)
