"""Connections of clients: the only file that knows uvicorn, and what it uses of uvicorn's private side.

Connection is uvicorn's own, with limits on the number of connections and on their silence. It brings requests that do
work to the exchange and writes their answers itself; all others it leaves to uvicorn, which calls FastAPI.
"""

from __future__ import annotations

import asyncio
import functools
import http
import logging
import math
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.api.arrival import ClientLeft
from service.api.exchange import Answer, Exchange, Work
from service.api.request import Request

log = logging.getLogger(__name__)

# Requests of one connection that wait for the answer to an earlier one. A client that sends more ahead is cut off.
MAX_PIPELINED = 100
# Of requests that arrive together over one connection, this many are refused before other connections have their turn.
MAX_REFUSED_AT_ONCE = 64

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in http.HTTPStatus}
# What this file uses of uvicorn that is not public: attributes by class, and names that a method of uvicorn must use.
ATTRIBUTES = {
    HttpToolsProtocol: (
        "connections cycle flow loop pipeline scope server_state tasks timeout_keep_alive transport _start_asgi_task "
        "on_headers_complete on_message_begin on_response_complete send_400_response"
    ),
    RequestResponseCycle: (
        "body default_headers disconnected keep_alive more_body on_response receive response_complete response_started "
        "scope waiting_for_100_continue"
    ),
}
CALLS = {
    HttpToolsProtocol.on_headers_complete: "_start_asgi_task on_response_complete pipeline",
    HttpToolsProtocol.data_received: "send_400_response",
    HttpToolsProtocol.on_body: "response_complete",
}


def check_uvicorn() -> None:
    """Raises RuntimeError, with the name, if the installed uvicorn lacks what this file uses of its private side."""
    for kind, names in ATTRIBUTES.items():
        there = {*dir(kind), *kind.__init__.__code__.co_names}  # type: ignore[misc]
        if missing := [name for name in names.split() if name not in there]:
            raise RuntimeError(_unknown_uvicorn(f"{kind.__name__} has no {missing[0]}"))
    for method, names in CALLS.items():
        if missing := [name for name in names.split() if name not in method.__code__.co_names]:
            raise RuntimeError(_unknown_uvicorn(f"{method.__qualname__} does not use {missing[0]}"))


def _unknown_uvicorn(reason: str) -> str:
    return f"uvicorn {uvicorn.__version__} does not fit: {reason}; install the release that ernie-zh requires."


class Connection(HttpToolsProtocol):
    """One connection. If there are too many, the one that has been idle longest is closed for a new one.

    If every other one has a request, the new one is closed.
    """

    def __init__(
        self,
        *uvicorns: Any,
        max_connections: int,
        head_seconds: float,
        exchange: Exchange | None,
        draining: Callable[[], bool],
        idle: dict[Connection, None],
        **more: Any,
    ) -> None:
        """`idle` is shared by all: the connections without a request, the one that has been idle longest first."""
        super().__init__(*uvicorns, **more)
        self._max_connections = max_connections
        # uvicorn closes a connection that is silent after an answer; this closes one that sends no complete head.
        self._idle_seconds = self.timeout_keep_alive + head_seconds
        self._exchange = exchange
        self._answering: tuple[Work, asyncio.Task[None]] | None = None
        self._draining = draining
        self._refused_at_once = 0
        self._refused_unread = False
        self._idle = idle
        # When it is closed unless something arrives, or a complete head. The timer is replaced only if it would be too
        # late: two timers for each request cost more than a look at the clock now and then.
        self._silent_until = self._headless_until = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = math.inf

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_request()
        if len(self.connections) > self._max_connections:
            next(iter(self._idle)).close()

    def data_received(self, data: bytes) -> None:
        self._refused_at_once = 0
        self._silent_until = math.inf
        super().data_received(data)

    def on_message_begin(self) -> None:
        self._refused_unread = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self.transport.is_closing():
            return  # what arrives after the end of a connection is not a request
        self._await_no_request()
        if len(self.pipeline) >= MAX_PIPELINED:
            self.transport.abort()
            return
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._refused_unread = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        if self._refused_unread:
            self.close()  # a request has one answer, whatever follows in its body
        elif self._exchange and isinstance(sys.exc_info()[1], httptools.HttpParserCallbackError):
            # Our own code has failed in a callback of the parser, which reports that as a fault of the client.
            log.exception("a request could not be taken in")
            scope: Any = self.scope or {}
            request = Request(scope.get("method", ""), scope.get("path", ""), self.headers or [])
            answer = self._exchange.failure(request)
            self.transport.write(self._written(request, answer, [*self.server_state.default_headers], False))
            self._exchange.written(request, answer)
            self.close()
        else:
            super().send_400_response(msg)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Called by uvicorn when a head has arrived and the connection has no earlier request."""
        if self._draining():
            # Announced, or the client's next request would meet the end of the connection.
            cycle.keep_alive = False
        scope: Any = cycle.scope
        exchange = self._exchange
        request = exchange.open(scope["method"], scope["path"], scope["headers"]) if exchange else None
        if exchange is None or request is None:
            super()._start_asgi_task(cycle, app)
            return
        answer = exchange.refuse(request)
        if answer and not self.flow.write_paused:
            self._refuse(cycle, request, answer)
            return
        task = self.loop.create_task(self._answer(cycle, request, answer))
        self._answering = request, task
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _refuse(self, cycle: RequestResponseCycle, request: Work, answer: Answer) -> None:
        """Writes an answer that needs nothing of the body."""
        # A client that waits for "100 Continue" may send its body or not, so its next request cannot be told from it.
        last = cycle.waiting_for_100_continue or self._refused_at_once + 1 == MAX_REFUSED_AT_ONCE
        self._refused_at_once += 1
        self._refused_unread = cycle.more_body
        cycle.keep_alive = cycle.keep_alive and not last
        self._finish(cycle, request, answer)

    async def _answer(self, cycle: RequestResponseCycle, request: Work, answer: Answer | None) -> None:
        """Writes the answer of the exchange, unless the client leaves first."""
        assert self._exchange
        try:
            if answer is None:
                # Of a body without a declared length the gate has not checked the size.
                declared = b"content-length" in request.first_header and len(cycle.body) <= HIGH_WATER_LIMIT
                body: Any = bytes(cycle.body) if declared and not cycle.more_body else cycle.receive
                answer = await self._exchange.answer(request, body)
            if self.flow.write_paused:
                await self.flow.drain()
        except (ClientLeft, asyncio.CancelledError):
            return
        finally:
            self._answering = None
        if not cycle.disconnected:
            self._finish(cycle, request, answer)

    def _finish(self, cycle: RequestResponseCycle, request: Work, answer: Answer) -> None:
        assert self._exchange
        cycle.keep_alive = cycle.keep_alive and not answer.close
        cycle.response_started = cycle.response_complete = True  # what still arrives of the request is dropped
        cycle.on_response = _nothing  # or connection and cycle would keep each other in memory
        self.transport.write(self._written(request, answer, cycle.default_headers, cycle.keep_alive))
        if not cycle.keep_alive:
            self.transport.close()
        self._exchange.written(request, answer)
        self.on_response_complete()

    def _written(
        self, request: Request, answer: Answer, default_headers: list[tuple[bytes, bytes]], keep_alive: bool
    ) -> bytes:
        """Head and body of an answer."""
        assert self._exchange
        parts = [_STATUS_LINES[answer.status]]
        for name, value in (*default_headers, *self._exchange.document(request, answer)):
            parts += (name, b": ", value, b"\r\n")
        parts += (b"\r\n" if keep_alive else b"connection: close\r\n\r\n", answer.body)
        return b"".join(parts)

    def on_response_complete(self) -> None:
        # As in uvicorn, except for the timer.
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._silent_until = self.loop.time() + self.timeout_keep_alive
            self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._await_no_request()
        if self._timer:
            self._timer.cancel()
        super().connection_lost(exc)
        if self._answering:
            request, task = self._answering
            request.left = True
            task.cancel()

    def close(self) -> None:
        """Ends the connection after the bytes that are still to be sent."""
        self._await_no_request()
        self.transport.close()

    def _await_request(self) -> None:
        self._idle.pop(self, None)
        self._idle[self] = None
        self._headless_until = self.loop.time() + self._idle_seconds
        self._watch()

    def _await_no_request(self) -> None:
        self._idle.pop(self, None)
        self._silent_until = self._headless_until = math.inf

    def _watch(self) -> None:
        """Sets the timer, unless it ends early enough."""
        due = min(self._silent_until, self._headless_until)
        if due < self._timer_due:
            if self._timer:
                self._timer.cancel()
            self._timer, self._timer_due = self.loop.call_at(due, self._look), due

    def _look(self) -> None:
        self._timer, self._timer_due = None, math.inf
        if self.loop.time() >= min(self._silent_until, self._headless_until):
            self.close()
        else:
            self._watch()


def _nothing() -> None:
    pass


def connections(
    max_connections: int,
    head_seconds: float,
    exchange: Exchange | None = None,
    draining: Callable[[], bool] = lambda: False,
) -> Callable[..., Connection]:
    """The value of `http` in `uvicorn.Config`, for one server. While it drains, an answer ends its connection.

    Raises RuntimeError if the installed uvicorn does not fit.
    """
    check_uvicorn()
    return functools.partial(
        Connection,
        max_connections=max_connections,
        head_seconds=head_seconds,
        exchange=exchange,
        draining=draining,
        idle={},
    )


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: signals reach every process, and the parent decides what they mean."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by uvicorn on SIGTERM and SIGINT."""

    def end(self, at_once: bool = False) -> None:
        """Stops accepting connections, and ends when the answers in flight are sent; `at_once`: without them."""
        self.should_exit = True
        self.force_exit = self.force_exit or at_once
