"""The engine's loop: read what has arrived, run the best batch, answer, repeat; a thread does so for every stream.

The threads take turns as leader and followers (Schmidt and others, 2000): one of them, the leader, waits for what
comes. When that makes a batch it lets another lead and runs the batch itself, so where nothing waits, no request is
handed from thread to thread, each of which would first have to be woken. While all of them run a batch nobody reads;
who is done first does, and takes in all that has arrived before the next batch is chosen. Where requests come one at a
time, the leader goes on leading while it runs a batch, for to wake another costs a tenth of a short text's latency.

A batch that fails is run again in halves, down to the input that makes it fail.
"""

from __future__ import annotations

import os
import select
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import takewhile
from math import prod
from pathlib import Path
from typing import Any

from service.engine.batching import Batcher, Ticket
from service.engine.bell import Bell
from service.engine.messages import (
    Alive,
    Answer,
    BatchDone,
    Cancel,
    Failed,
    FrameError,
    FrameReader,
    Infer,
    Item,
    Output,
    Probe,
    Ready,
    Started,
    ToApi,
    ToEngine,
    frame,
)
from service.engine.tensors import InvalidItem, OutputError, Tensors
from service.runtime.base import Runtime

READ_BYTES = 1 << 20
WARM_UP_SECONDS = 5.0
# After so many passes during which nothing came, all of them shorter than this, the next is likely to be alone too, and
# short where it has no more tokens than they. If it is not alone, what comes waits for it.
PASSES_ALONE = 16
SHORT_PASS_SECONDS = 0.01
# Its supervisor hears of batches so often at most: to wake it for each took a quarter of what a short pass takes.
REPORT_SECONDS = 0.05
# What a forward pass may raise that the engine survives.
FAILURES = OutputError, RuntimeError, ValueError
# What a connection may say before others are heard, or a batch is run.
MAX_TURN_BYTES = 64 << 20


@dataclass(eq=False)
class _Connection:
    """One API process."""

    socket: socket.socket
    reader: FrameReader = field(default_factory=lambda: FrameReader(ToEngine))
    unsent: bytearray = field(default_factory=bytearray)
    requests: set[int] = field(default_factory=set)
    watches: bool = False
    """Whether this is the supervisor, which is told of every batch."""


@dataclass(eq=False)
class _Pending:
    """A request with items that have no output yet."""

    connection: _Connection
    message: Infer
    sent: float
    outputs: list[Output | None]
    started: float | None = None
    inference_seconds: float = 0.0


Batch = list[tuple[Ticket, _Pending]]


@dataclass(eq=False)
class _Pass:
    """A forward pass that runs, or is the next to; without a batch it is for the sake of a probe."""

    items: Sequence[Item]
    batch: Batch | None
    began: float = 0.0
    alone: bool = False
    """Whether nothing is likely to come while it runs."""

    @property
    def tokens(self) -> int:
        """With padding, but for what shapes add."""
        return len(self.items) * max(len(item.input_ids) for item in self.items)


@dataclass(eq=False)
class _Proof:
    """A probe that is answered when the passes that ran when it came, or one for its sake, are over."""

    connection: _Connection
    awaited: set[_Pass]


class Engine:
    """Serves one runtime to any number of API processes over a Unix socket."""

    def __init__(
        self, runtime: Runtime, tensors: Tensors, batcher: Batcher, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._runtime = runtime
        self._tensors = tensors
        self._batcher = batcher
        self._clock = clock
        self._pending: dict[tuple[_Connection, int], _Pending] = {}
        self._leading = threading.Lock()
        self._state = threading.Lock()
        """Held by whoever uses what is below, and neither while waiting nor during a pass."""
        self._running: set[_Pass] = set()
        self._again: deque[Batch] = deque()
        """Halves of batches that failed; they go first."""
        self._checks: deque[_Pass] = deque()
        """Passes for the sake of probes."""
        self._proofs: list[_Proof] = []
        self._reports = bytearray()
        self._reported = clock()
        self._selector = selectors.DefaultSelector()
        self._connections: set[_Connection] = set()
        self._to_flush: dict[_Connection, None] = {}
        self._look_again, self._over = Bell(), Bell()
        self._stopping = self._ended = False
        self._ready: Ready | None = None
        self._last_run = clock()
        self._alone = 0
        """Short passes since the last request that came during one."""
        self._short_tokens = 0
        """Of the largest of them, padding counted."""

    def warm_up(self) -> Ready:
        """Runs the shapes that serving will meet: short, longest, a full batch; and all, where they are few.

        The small ones come first, and after WARM_UP_SECONDS the others are left to be met: the larger a batch is, the
        less it matters that kernels are made for it. Raises BundleError where the graph has another number of classes
        than the bundle has labels, and OutputError.
        """
        started = self._clock()
        longest = self._tensors.max_length
        options = self._batcher.options
        usual = min(128, longest)
        rows = max(1, min(options.max_batch_items, options.max_batch_tokens // usual))
        few = sorted(self._tensors.shapes.all(options.max_batch_tokens, options.max_batch_items, longest), key=prod)

        def run(stream: int) -> Output:
            for shape in ((1, min(8, longest)), (rows, usual), (1, longest)):
                output = self._forward(self._tensors.example(*shape), stream)[0]
            for shape in takewhile(lambda _: self._clock() - started < WARM_UP_SECONDS, few):
                self._forward(self._tensors.example(*shape), stream)
            return output

        with ThreadPoolExecutor(self._runtime.streams) as threads:
            output, *_ = threads.map(run, range(self._runtime.streams))
        self._tensors.check_labels(output)
        self._ready = Ready(len(output.scores), self._runtime.backend, self._clock() - started)
        return self._ready

    def serve(self, path: Path, parent: int) -> None:
        """Listens on `path`. A byte from `parent`, a pipe, ends it when the queue is done; its end, at once.

        Raises OutputError or RuntimeError when the graph cannot be run any more.
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(path))
            listener.listen()
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ, lambda _: self._accept(listener))
            self._selector.register(self._look_again, selectors.EVENT_READ, lambda _: self._look_again.hush())
            with ThreadPoolExecutor(self._runtime.streams, "stream") as threads:
                working = [threads.submit(self._work, stream) for stream in range(self._runtime.streams)]
                for each in working:
                    each.add_done_callback(lambda _: self._over.ring())
                try:
                    self._obey(parent, working)
                finally:
                    self._end()
                for each in working:
                    each.result()
        self._look_again.close()
        self._over.close()
        self._runtime.close()

    def _obey(self, parent: int, working: Sequence[Future[None]]) -> None:
        """Waits for the end, or what the parent says: by itself, for any stream may hang when the parent is gone."""
        while not all(each.done() for each in working):
            heard, _, _ = select.select([parent, self._over.fileno()], [], [])
            self._over.hush()
            if parent in heard:
                if not os.read(parent, 1):
                    os._exit(0)
                with self._state:
                    self._stopping = True
                self._look_again.ring()

    def _work(self, stream: int) -> None:
        """What one thread does until the engine ends, which it does for all when it does for one."""
        try:
            while True:
                with self._leading:
                    while (begun := self._lead()) and begun.alone:
                        self._run(begun, stream)
                if begun is None:
                    return
                self._run(begun, stream)
        finally:
            self._end()

    def _end(self) -> None:
        """Of all threads, each when it next looks."""
        self._ended = True
        self._look_again.ring()

    def _lead(self) -> _Pass | None:
        """Waits until there is a pass to run; None at the end."""
        while True:
            with self._state:
                if self._ended:
                    return None
                last = self._stopping and self._idle()  # but for what nobody has read yet
                timeout = 0.0 if last else self._timeout()
            arrived = self._selector.select(timeout)
            with self._state:
                for key, events in arrived:
                    key.data(events)
                begun = self._begin()
                self._send_reports()
                self._flush_all()  # before the pass: if it ends the process, it is known what was in it
                if begun or (last and self._idle()):
                    return begun

    def _run(self, begun: _Pass, stream: int) -> None:
        outcome: list[Output] | Exception
        try:
            outcome = self._forward(begun.items, stream)
        except FAILURES as error:
            outcome = error
        with self._state:
            self._finish(begun, outcome)
            self._flush_all()

    def _idle(self) -> bool:
        return not (self._pending or self._running or any(each.unsent for each in self._connections))

    def _timeout(self) -> float | None:
        """How long to wait for input: not at all while a batch is due."""
        if self._again or self._checks:
            return 0.0
        due = self._batcher.due()
        waits = [] if due is None else [max(0.0, due - self._clock())]
        if self._running or self._reports:
            waits.append(REPORT_SECONDS)
        return min(waits, default=None)

    def _accept(self, listener: socket.socket) -> None:
        accepted, _ = listener.accept()
        accepted.setblocking(False)
        connection = _Connection(accepted)
        self._connections.add(connection)
        self._selector.register(accepted, selectors.EVENT_READ, lambda events: self._serve(connection, events))
        if self._ready:
            self._send(connection, self._ready)

    def _serve(self, connection: _Connection, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush(connection)
        if not events & selectors.EVENT_READ or connection not in self._connections:
            return
        # All that has arrived is taken in: a cancellation may stand behind much that it cancels.
        left = MAX_TURN_BYTES
        try:
            while left > 0 and (data := connection.socket.recv(READ_BYTES)):
                left -= len(data)
                for message in connection.reader.feed(data):
                    if connection not in self._connections:
                        return
                    self._receive(connection, message)
        except BlockingIOError:
            return
        except (FrameError, ConnectionError):
            data = b""
        if not data:
            self._disconnect(connection)

    def _receive(self, connection: _Connection, message: Any) -> None:
        if isinstance(message, Probe):
            self._prove(connection, message)
            return
        key = (connection, message.id)
        if isinstance(message, Cancel):
            self._batcher.cancel(key)
            self._forget(key)
            return
        try:
            if key in self._pending or not message.items:
                raise InvalidItem("a request must have items and an id of its own.")
            for item in message.items:
                self._tensors.check(item)
        except InvalidItem as error:
            self._send(connection, Failed(message.id, "invalid_input", str(error)))
            return
        now = self._clock()
        sent = now if message.sent is None else min(message.sent, now)
        if self._running or sent < self._last_run:
            self._alone = self._short_tokens = 0
        self._pending[key] = _Pending(connection, message, sent, [None] * len(message.items))
        connection.requests.add(message.id)
        lengths = [len(item.input_ids) for item in message.items]
        self._batcher.add(key, lengths, now, message.deadline, message.priority)

    def _prove(self, connection: _Connection, probe: Probe) -> None:
        """Answers a probe: when what runs now is over, so that a stream that hangs is noticed, or at once."""
        connection.watches = True
        proof = _Proof(connection, set(self._running))
        if not proof.awaited and self._clock() - self._last_run > probe.proof_seconds:
            self._checks.append(_Pass(self._tensors.example(1, 1), None))
            proof.awaited.add(self._checks[-1])
        self._proofs.append(proof)
        self._answer_probes()

    def _answer_probes(self) -> None:
        if any(not each.awaited for each in self._proofs):
            self._send_reports(at_once=True)  # they tell of a queue that was before
        for proof in [each for each in self._proofs if not each.awaited]:
            self._proofs.remove(proof)
            self._send(proof.connection, Alive(self._batcher.queue_items, self._batcher.queue_tokens))

    def _begin(self) -> _Pass | None:
        """The next pass, which the caller is to run."""
        now = self._clock()
        if begun := self._next(now):
            begun.began = now
            begun.alone = (
                self._alone >= PASSES_ALONE
                and begun.tokens <= self._short_tokens
                and not (self._running or self._batcher.queue_items)
            )
            self._running.add(begun)
        return begun

    def _next(self, now: float) -> _Pass | None:
        while self._again:
            if batch := [(ticket, request) for ticket, request in self._again.popleft() if self._is_pending(request)]:
                return _pass_of(batch)
        if self._checks:
            return self._checks.popleft()
        if self._batcher.queue_items:
            for key in self._batcher.expire(now):
                self._fail(key, "deadline_exceeded", "the deadline passed while the request was waiting.")
        idle = self._runtime.streams - len(self._running)
        if not (tickets := self._batcher.next_batch(now, idle)):
            return None
        batch = [(ticket, self._pending[ticket.request]) for ticket in tickets]  # type: ignore[index]
        self._say_started(batch, now)
        return _pass_of(batch)

    def _say_started(self, batch: Batch, now: float) -> None:
        ids: dict[_Connection, list[int]] = {}
        for request in dict.fromkeys(request for _, request in batch):
            request.started = now if request.started is None else request.started
            ids.setdefault(request.connection, []).append(request.message.id)
        for connection, numbers in ids.items():
            self._send(connection, Started(numbers))

    def _forward(self, items: Sequence[Item], stream: int) -> list[Output]:
        """On the stream's own thread."""
        return self._tensors.outputs(self._runtime.run(self._tensors.inputs(items), stream), items)

    def _finish(self, ended: _Pass, outcome: list[Output] | Exception) -> None:
        """Takes what a pass has given; one for the sake of a probe that fails ends the process, to start afresh."""
        self._running.discard(ended)
        for proof in self._proofs:
            proof.awaited.discard(ended)
        if isinstance(outcome, list):
            now = self._last_run = self._clock()
            if now - ended.began < SHORT_PASS_SECONDS:
                self._alone += 1
                self._short_tokens = max(self._short_tokens, ended.tokens)
            else:
                self._alone = self._short_tokens = 0
            if ended.batch is not None:
                self._deliver(ended.batch, outcome, now - ended.began)
        elif ended.batch is None:
            raise outcome
        else:
            self._bisect(ended.batch, outcome)
        self._answer_probes()
        self._send_reports()
        if self._again or self._stopping:
            self._look_again.ring()  # another thread may lead, and wait for input only

    def _bisect(self, batch: Batch, error: Exception) -> None:
        """Runs a batch that failed in halves; an item that fails alone leaves its request without results."""
        if len(batch) > 1:
            half = len(batch) // 2
            self._again += [batch[:half], batch[half:]]
            return
        [(ticket, request)] = batch
        if self._is_pending(request):
            self._batcher.cancel(ticket.request)
            self._fail(ticket.request, "engine_failed", f"the forward pass failed: {error}")

    def _is_pending(self, request: _Pending) -> bool:
        return self._pending.get((request.connection, request.message.id)) is request

    def _deliver(self, batch: Batch, outputs: list[Output], seconds: float) -> None:
        for request in dict.fromkeys(request for _, request in batch):
            request.inference_seconds += seconds
        for (ticket, request), output in zip(batch, outputs, strict=True):
            # Nobody may wait for it any more: the client has left, or its connection could not be written to.
            if self._is_pending(request):
                request.outputs[ticket.index] = output
                if None not in request.outputs:
                    self._answer(ticket.request, request)
        self._report([ticket for ticket, _ in batch], seconds)

    def _report(self, batch: list[Ticket], seconds: float) -> None:
        lengths = [ticket.length for ticket in batch]
        waiting = self._batcher.queue_items, self._batcher.queue_tokens
        padded = len(batch) * self._tensors.columns(max(lengths))
        self._reports += frame(BatchDone(len(batch), sum(lengths), padded, seconds, *waiting))

    def _send_reports(self, at_once: bool = False) -> None:
        """Tells of the batches that are done, but not of each as soon as it is."""
        late = at_once or self._stopping or self._clock() - self._reported >= REPORT_SECONDS
        if not (self._reports and late):
            return
        self._reported = self._clock()
        for connection in [each for each in self._connections if each.watches]:
            connection.unsent += self._reports
            self._to_flush[connection] = None
        self._reports.clear()

    def _answer(self, key: Any, request: _Pending) -> None:
        outputs = [output for output in request.outputs if output is not None]
        queued = (request.started or request.sent) - request.sent
        try:
            self._send(request.connection, Answer(request.message.id, outputs, queued, request.inference_seconds))
        except FrameError as error:
            self._fail(key, "invalid_input", f"the answer is too large: {error}")
        self._forget(key)

    def _fail(self, key: Any, code: Any, message: str) -> None:
        connection, request_id = key
        self._send(connection, Failed(request_id, code, message))
        self._forget(key)

    def _forget(self, key: Any) -> None:
        self._pending.pop(key, None)
        key[0].requests.discard(key[1])

    def _send(self, connection: _Connection, message: ToApi) -> None:
        """Leaves it to `_flush_all`: the answers of a batch go out together, and wake their reader once."""
        connection.unsent += frame(message)
        self._to_flush[connection] = None

    def _flush_all(self) -> None:
        connections, self._to_flush = self._to_flush, {}
        for connection in connections:
            self._flush(connection)

    def _flush(self, connection: _Connection) -> None:
        """Sends what the socket takes; the rest waits until it is writable, so no reader can hold the engine up."""
        if connection not in self._connections:
            return
        try:
            while connection.unsent:
                del connection.unsent[: connection.socket.send(connection.unsent)]
        except BlockingIOError:
            pass
        except ConnectionError:
            self._disconnect(connection)
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.unsent else 0)
        if self._selector.get_key(connection.socket).events != wanted:
            self._selector.modify(connection.socket, wanted, self._selector.get_key(connection.socket).data)

    def _disconnect(self, connection: _Connection) -> None:
        """Nobody waits for the requests of a closed connection."""
        self._connections.discard(connection)
        self._proofs = [proof for proof in self._proofs if proof.connection is not connection]
        self._selector.unregister(connection.socket)
        connection.socket.close()
        connection.unsent.clear()
        for request_id in list(connection.requests):
            self._batcher.cancel((connection, request_id))
            self._forget((connection, request_id))


def _pass_of(batch: Batch) -> _Pass:
    return _Pass([request.message.items[ticket.index] for ticket, request in batch], batch)
