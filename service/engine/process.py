"""The engine's loop: read what has arrived, run the best batch, answer, repeat. One thread, no locks.

While a forward pass runs nothing is read; requests and cancellations wait in the sockets' buffers and are taken in
before the next batch is chosen.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.engine.batching import Batcher, Ticket
from service.engine.messages import (
    Answer,
    BatchDone,
    Cancel,
    Failed,
    FrameError,
    FrameReader,
    Infer,
    Output,
    Ready,
    ToApi,
    ToEngine,
    frame,
)
from service.engine.tensors import InvalidItem, OutputError, Tensors
from service.runtime.base import Runtime

READ_BYTES = 1 << 20


@dataclass(eq=False)
class _Connection:
    """One API process."""

    socket: socket.socket
    reader: FrameReader = field(default_factory=lambda: FrameReader(ToEngine))
    unsent: bytearray = field(default_factory=bytearray)
    requests: set[int] = field(default_factory=set)


@dataclass(eq=False)
class _Pending:
    """A request with items that have no output yet."""

    connection: _Connection
    message: Infer
    arrival: float
    outputs: list[Output | None]
    started: float | None = None
    inference_seconds: float = 0.0


Key = tuple[_Connection, int]


class Engine:
    """Serves one runtime to any number of API processes over a Unix socket."""

    def __init__(
        self, runtime: Runtime, tensors: Tensors, batcher: Batcher, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._runtime = runtime
        self._tensors = tensors
        self._batcher = batcher
        self._clock = clock
        self._pending: dict[Key, _Pending] = {}
        self._selector = selectors.DefaultSelector()
        self._connections: set[_Connection] = set()
        self._stopping = False
        self._ready: Ready | None = None

    def warm_up(self) -> Ready:
        """Runs the shapes that serving will meet: short, longest, and a full batch."""
        started = self._clock()
        longest = self._tensors.max_length
        options = self._batcher.options
        usual = min(128, longest)
        rows = max(1, min(options.max_batch_items, options.max_batch_tokens // usual))
        for count, length in ((1, min(8, longest)), (1, longest), (rows, usual)):
            items = self._tensors.example(count, length)
            arrays = self._runtime.run(self._tensors.inputs(items))
            outputs = self._tensors.outputs(arrays, items)
        self._ready = Ready(len(outputs[0].scores), self._runtime.backend, self._clock() - started)
        return self._ready

    def serve(self, path: Path, parent: int) -> None:
        """Listens on `path` until SIGTERM, or until `parent`, the read end of the parent's pipe, is closed."""
        woken, waker = socket.socketpair()
        for end in (woken, waker):
            end.setblocking(False)
        signal.set_wakeup_fd(waker.fileno())
        signal.signal(signal.SIGTERM, lambda *_: self._stop())
        self._selector.register(woken, selectors.EVENT_READ, lambda _: woken.recv(4096))
        self._selector.register(parent, selectors.EVENT_READ, lambda _: os._exit(0) if not os.read(parent, 1) else None)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener, contextlib.ExitStack() as cleanup:
            cleanup.callback(signal.set_wakeup_fd, -1)
            listener.bind(str(path))
            listener.listen()
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ, lambda _: self._accept(listener))
            while not (self._stopping and self._idle()):
                self._read(self._timeout())
                self._step()
        self._runtime.close()

    def _stop(self) -> None:
        self._stopping = True

    def _idle(self) -> bool:
        return not self._pending and not any(connection.unsent for connection in self._connections)

    def _timeout(self) -> float | None:
        """How long to wait for input: not at all while a batch is due."""
        due = self._batcher.due()
        return None if due is None else max(0.0, due - self._clock())

    def _read(self, timeout: float | None) -> None:
        for key, events in self._selector.select(timeout):
            key.data(events)

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
        try:
            data = connection.socket.recv(READ_BYTES)
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
        self._pending[key] = _Pending(connection, message, now, [None] * len(message.items))
        connection.requests.add(message.id)
        self._batcher.add(key, [len(item.input_ids) for item in message.items], now, message.deadline)

    def _step(self) -> None:
        """Runs one batch, if one is due."""
        now = self._clock()
        for key in self._batcher.expire(now):
            self._fail(key, "deadline_exceeded", "the deadline passed while the request was waiting.")
        batch = self._batcher.next_batch(now)
        if batch:
            self._run(batch, now)

    def _run(self, batch: list[Ticket], started: float) -> None:
        requests = [self._pending[ticket.request] for ticket in batch]  # type: ignore[index]
        items = [request.message.items[ticket.index] for request, ticket in zip(requests, batch, strict=True)]
        try:
            inputs = self._tensors.inputs(items)
            outputs = self._tensors.outputs(self._runtime.run(inputs), items)
        except (OutputError, RuntimeError, ValueError) as error:
            for key in {ticket.request for ticket in batch}:
                self._batcher.cancel(key)
                self._fail(key, "engine_failed", f"the forward pass failed: {error}")
            return
        seconds = self._clock() - started
        self._report(requests[0].connection, batch, inputs["input_ids"].size, seconds)
        for key in {ticket.request for ticket in batch}:
            request = self._pending[key]  # type: ignore[index]
            request.started = started if request.started is None else request.started
            request.inference_seconds += seconds
        for request, ticket, output in zip(requests, batch, outputs, strict=True):
            request.outputs[ticket.index] = output
            if None not in request.outputs:
                self._answer(ticket.request, request)

    def _report(self, connection: _Connection, batch: list[Ticket], padded_tokens: int, seconds: float) -> None:
        tokens = sum(ticket.length for ticket in batch)
        waiting = self._batcher.queue_items, self._batcher.queue_tokens
        self._send(connection, BatchDone(len(batch), tokens, padded_tokens, seconds, *waiting))

    def _answer(self, key: Any, request: _Pending) -> None:
        outputs = [output for output in request.outputs if output is not None]
        queued = (request.started or request.arrival) - request.arrival
        self._send(request.connection, Answer(request.message.id, outputs, queued, request.inference_seconds))
        self._forget(key)

    def _fail(self, key: Any, code: Any, message: str) -> None:
        connection, request_id = key
        self._send(connection, Failed(request_id, code, message))
        self._forget(key)

    def _forget(self, key: Any) -> None:
        self._pending.pop(key, None)
        key[0].requests.discard(key[1])

    def _send(self, connection: _Connection, message: ToApi) -> None:
        connection.unsent += frame(message)
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
        self._selector.unregister(connection.socket)
        connection.socket.close()
        connection.unsent.clear()
        for request_id in list(connection.requests):
            self._batcher.cancel((connection, request_id))
            self._forget((connection, request_id))
