"""Sockets and threads of an engine: read messages, run the next pass, send the results, repeat.

There is one thread for each stream. The threads follow the pattern leader/followers (Schmidt and others, 2000). One
thread, the leader, waits for messages. When there is a batch to run, the leader hands the lead to another thread and
runs the batch itself, so no request moves from one thread to another. While all threads run a batch, no thread reads
messages. The first thread that finishes reads all messages that have arrived; then the next batch is chosen. When
requests arrive one at a time, the leader keeps the lead during its pass (engine/lone.py), because waking another thread
costs a tenth of the latency of a short text.

The locks:

| lock      | guards                                  | held                                                        |
|-----------|-----------------------------------------|-------------------------------------------------------------|
| `_lead`   | the selector's `select`                 | by the leader: while it waits, reads, and runs a lone pass  |
| `_state`  | core, connections, unsent messages, and | by any thread while it reads, sends or changes them; never  |
|           | which sockets the selector watches      | while it waits or runs a pass                               |

A thread that holds `_state` never waits for `_lead`. `_ended` is a flag that is set once, without a lock. The main
thread only waits for the parent (`_obey`); it holds `_state` to set `stopping`.
"""

from __future__ import annotations

import os
import select
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from service.engine.batching import Batcher
from service.engine.core import EngineCore, Pass
from service.engine.quarantine import Quarantine
from service.engine.tensors import OutputError, Tensors
from service.engine.wake_up import WakeUp
from service.engine.warm_up import warm_up
from service.messages.frames import READ_BYTES, FrameError, FrameReader, frame
from service.messages.inference import Failed, Inferred, Output, Ready, ToApi, ToEngine
from service.messages.local_socket import is_own_user, native_address
from service.runtime.base import Runtime

# After these errors of a forward pass the engine continues.
FAILURES = OutputError, RuntimeError, ValueError
# Maximum number of bytes that are read from one connection before the others are read or a batch is run.
MAX_TURN_BYTES = 64 << 20


@dataclass(eq=False)
class _Connection:
    """An API process, or the supervisor."""

    socket: socket.socket
    reader: FrameReader = field(default_factory=lambda: FrameReader(ToEngine))
    unsent: bytearray = field(default_factory=bytearray)


class EngineLoop:
    """Serves one runtime to any number of API processes over a Unix socket."""

    def __init__(
        self,
        runtime: Runtime,
        tensors: Tensors,
        batcher: Batcher,
        clock: Callable[[], float] = time.monotonic,
        quarantine: Quarantine | None = None,
    ) -> None:
        self._runtime = runtime
        self._tensors = tensors
        self._batching = batcher.options
        self._clock = clock
        self._lead = threading.Lock()
        self._state = threading.Lock()
        self._quarantine = quarantine or Quarantine(None, runtime.streams, batcher.options.max_batch_items)
        self._core = EngineCore(tensors, batcher, runtime.streams, clock(), self._quarantine)
        self._selector = selectors.DefaultSelector()
        self._connections: set[_Connection] = set()
        self._look_again, self._thread_ended = WakeUp(), WakeUp()
        self._ended = False
        self._ready: Ready | None = None

    def warm_up(self) -> Ready:
        """Runs the graph; raises BundleError and OutputError (engine/warm_up.py)."""
        self._ready = warm_up(self._runtime, self._tensors, self._batching, self._clock)
        return self._ready

    def serve(self, address: str | Path, parent: int) -> None:
        """Listens on the Unix socket `address`. `parent` is a pipe: a byte from it ends this call when the queue is
        empty; if the pipe is closed, the process exits immediately.

        Raises OutputError or RuntimeError if the graph no longer runs.
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(native_address(address))
            listener.listen()
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ, lambda _: self._accept(listener))
            self._selector.register(self._look_again, selectors.EVENT_READ, lambda _: self._look_again.clear())
            with ThreadPoolExecutor(self._runtime.streams, "stream") as threads:
                working = [threads.submit(self._work, stream) for stream in range(self._runtime.streams)]
                for each in working:
                    each.add_done_callback(lambda _: self._thread_ended.wake())
                try:
                    self._obey(parent, working)
                finally:
                    self._end()
                for each in working:
                    each.result()
        self._look_again.close()
        self._thread_ended.close()
        self._runtime.close()

    def _obey(self, parent: int, working: Sequence[Future[None]]) -> None:
        """Waits for the parent and for the end of all threads. It has a separate thread: any stream may hang."""
        while not all(each.done() for each in working):
            readable, _, _ = select.select([parent, self._thread_ended.fileno()], [], [])
            self._thread_ended.clear()
            if parent in readable:
                if not os.read(parent, 1):
                    os._exit(0)
                with self._state:
                    self._core.stopping = True
                self._look_again.wake()

    # Threads

    def _work(self, stream: int) -> None:
        """The loop of each thread until the engine stops. When one thread ends, all of them end."""
        try:
            while True:
                with self._lead:
                    while (started := self._wait()) and started.alone:
                        self._run(started, stream)
                if started is None:
                    return
                self._run(started, stream)
        finally:
            self._end()

    def _end(self) -> None:
        self._ended = True
        self._look_again.wake()

    def _wait(self) -> Pass | None:
        """Reads messages until there is a pass to run; returns None when the engine stops."""
        while True:
            with self._state:
                if self._ended:
                    return None
                last = self._core.stopping and self._idle()  # except for messages that no thread has read yet
                timeout = 0.0 if last else self._core.timeout(self._clock())
            arrived = self._selector.select(timeout)
            with self._state:
                for key, events in arrived:
                    key.data(events)
                started = self._core.start_pass(self._clock())
                self._send_all()  # before the pass: if it kills the process, clients know which requests failed
                if started or (last and self._idle()):
                    return started

    def _run(self, started: Pass, stream: int) -> None:
        outcome: list[Output] | Exception
        try:
            # The pass of a probe has an example as its input, which the warm-up has run.
            with self._quarantine.running(stream, started.items if started.batch else []):
                outcome = self._tensors.forward(self._runtime, started.items, stream)
        except FAILURES as error:
            outcome = error
        with self._state:
            self._core.finish_pass(started, outcome, self._clock())
            self._send_all()
            if self._core.again or self._core.stopping:
                self._look_again.wake()  # another thread may be the leader, and wait only for messages

    def _idle(self) -> bool:
        return self._core.idle and not any(each.unsent for each in self._connections)

    # Connections

    def _accept(self, listener: socket.socket) -> None:
        accepted, _ = listener.accept()
        if not is_own_user(accepted):
            accepted.close()
            return
        accepted.setblocking(False)
        connection = _Connection(accepted)
        self._connections.add(connection)
        self._selector.register(accepted, selectors.EVENT_READ, lambda events: self._serve(connection, events))
        if self._ready:
            connection.unsent += frame(self._ready)
            self._flush(connection)

    def _serve(self, connection: _Connection, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush(connection)
        if not events & selectors.EVENT_READ or connection not in self._connections:
            return
        # All data that has arrived is read, because a cancellation may be far behind the request that it cancels.
        left, now = MAX_TURN_BYTES, self._clock()
        try:
            while left > 0 and (data := connection.socket.recv(READ_BYTES)):
                left -= len(data)
                for message in connection.reader.feed(data):
                    self._core.receive(connection, message, now)
        except BlockingIOError:
            return
        except (FrameError, ConnectionError):
            data = b""
        if not data:
            self._disconnect(connection)

    def _send_all(self) -> None:
        """Sends the messages of the core. Those for one connection are sent together and wake its reader once."""
        connections: dict[_Connection, None] = {}
        for client, message in self._core.take_messages(self._clock()):
            assert isinstance(client, _Connection)
            client.unsent += _framed(message)
            connections[client] = None
        for connection in connections:
            self._flush(connection)

    def _flush(self, connection: _Connection) -> None:
        """Sends what the socket accepts, and the rest when it is writable, so a slow reader cannot block the engine."""
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
        self._connections.discard(connection)
        self._selector.unregister(connection.socket)
        connection.socket.close()
        connection.unsent.clear()
        self._core.disconnect(connection)


def _framed(message: ToApi) -> bytes:
    """The frame of a message. Results that are too large for a frame are replaced by a failure."""
    try:
        return frame(message)
    except FrameError as error:
        assert isinstance(message, Inferred)
        return frame(Failed(message.id, "invalid_input", f"the answer is too large: {error}"))
