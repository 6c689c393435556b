"""Connections of clients. This is the only file that uses private names of uvicorn.

Connection extends uvicorn's class. It limits the number of connections and the time that they may be silent. It passes
the requests of the exchange to it and writes their answers; uvicorn passes all other requests to FastAPI.
"""

from __future__ import annotations

import asyncio
import functools
import http
import logging
import math
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from service.api.arrival import ClientLeft
from service.api.exchange import Answer, Exchange, Work
from service.api.request import Request

log = logging.getLogger(__name__)

# Limit of requests of one connection that wait for the answer to an earlier one. If there are more, it is closed.
MAX_PIPELINED = 100
# Limit of rejected requests that arrive together on one connection. After them the connection is closed.
MAX_REFUSED_AT_ONCE = 64

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in http.HTTPStatus}
# The private names of uvicorn that this file uses: attributes of classes, and names that methods of uvicorn must use.
ATTRIBUTES = {
    HttpToolsProtocol: (
        "connections cycle flow loop pipeline scope server_state tasks timeout_keep_alive transport _start_asgi_task "
        "on_headers_complete on_message_begin on_message_complete on_response_complete send_400_response"
    ),
    FlowControl: "drain resume_reading write_paused",
    ServerState: "default_headers total_requests",
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
    """Raises RuntimeError with the name if the installed uvicorn lacks one of the private names that this file uses."""
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
    """One connection. If there are too many, a new connection closes the one that has been idle longest.

    If every other connection has a request, the new one is closed.
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
        """All connections share `idle`: the connections without a request, the one that has been idle longest first."""
        super().__init__(*uvicorns, **more)
        self._max_connections = max_connections
        # uvicorn's limit covers silence after an answer. This one covers the time until a complete head arrives.
        self._idle_seconds = self.timeout_keep_alive + head_seconds
        self._exchange = exchange
        self._answering: tuple[Work, asyncio.Task[None]] | None = None
        self._draining = draining
        self._refused_at_once = 0
        self._refused_unread = False
        self._idle = idle
        # The connection is closed at these times unless data, or a complete head, arrives before. The timer is replaced
        # only if it would fire too late: two timers per request would cost more than checking the clock sometimes.
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
            return  # data after the end of a connection is not a request
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
            self.close()  # the request already has its answer; its body does not matter
        else:
            super().send_400_response(msg)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Called with a request whose head has arrived, when the earlier requests of the connection are answered."""
        if self._draining():
            # The answer announces that the connection closes; otherwise the client's next request would fail.
            cycle.keep_alive = False
        scope: Any = cycle.scope
        exchange = self._exchange
        try:
            request = exchange.open(scope["method"], scope["path"], scope["headers"]) if exchange else None
            answer = exchange.refuse(request) if exchange and request else None
        except Exception:
            # In a callback of the parser, which would report it as an error of the client.
            log.exception("a request could not be accepted")
            assert exchange
            failed = Request(scope["method"], scope["path"], scope["headers"])
            self._finish(cycle, failed, exchange.failure(failed))
            return
        if request is None:
            super()._start_asgi_task(cycle, app)
        elif answer and not self.flow.write_paused:
            self._refuse(cycle, request, answer)
        else:
            task = self.loop.create_task(self._answer(cycle, request, answer))
            self._answering = request, task
            task.add_done_callback(self.tasks.discard)
            self.tasks.add(task)

    def _refuse(self, cycle: RequestResponseCycle, request: Work, answer: Answer) -> None:
        """Writes an answer that does not need the body."""
        # A client that waits for "100 Continue" may send its body or not. Its next request could be that body.
        last = cycle.waiting_for_100_continue or self._refused_at_once + 1 == MAX_REFUSED_AT_ONCE
        self._refused_at_once += 1
        self._refused_unread = cycle.more_body
        cycle.keep_alive = cycle.keep_alive and not last
        self._finish(cycle, request, answer)

    async def _answer(self, cycle: RequestResponseCycle, request: Work, refusal: Answer | None) -> None:
        """Writes the refusal, or the answer of the exchange, unless the client leaves first."""
        assert self._exchange
        try:
            answer = refusal
            if answer is None:
                # The gate has checked the size of a body only if the head declares it. Above HIGH_WATER_LIMIT uvicorn
                # has paused reading, and only `receive` resumes it.
                declared = b"content-length" in request.first_header and len(cycle.body) <= HIGH_WATER_LIMIT
                body: Any = bytes(cycle.body) if declared and not cycle.more_body else cycle.receive
                answer = await self._exchange.answer(request, body)
            if self.flow.write_paused:
                await self.flow.drain()
        except (ClientLeft, asyncio.CancelledError):
            return
        finally:
            self._answering = None
        if cycle.disconnected:
            return
        if refusal:
            self._refuse(cycle, request, refusal)
        else:
            self._finish(cycle, request, answer)

    def _finish(self, cycle: RequestResponseCycle, request: Request, answer: Answer) -> None:
        assert self._exchange
        cycle.keep_alive = cycle.keep_alive and not answer.close and not self._draining()
        cycle.response_started = cycle.response_complete = True  # the rest of the request is dropped
        cycle.on_response = _nothing  # otherwise connection and cycle would keep each other in memory
        try:
            self.transport.write(self._written(request, answer, cycle.default_headers, cycle.keep_alive))
            if not cycle.keep_alive:
                self.transport.close()
            self._exchange.written(request, answer)
        except Exception:
            log.exception("the answer to request %s could not be written or counted", request.id)
            self.transport.abort()
        self.on_response_complete()

    def _written(
        self, request: Request, answer: Answer, default_headers: list[tuple[bytes, bytes]], keep_alive: bool
    ) -> bytes:
        """The bytes of an answer, head and body."""
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
        for cycle in (self.cycle, *(each for each, _ in self.pipeline)):
            if cycle:
                cycle.on_response = _nothing  # as in _finish
        super().connection_lost(exc)
        if self._answering:
            request, task = self._answering
            request.left = True
            task.cancel()

    def close(self) -> None:
        """Closes the connection after all pending bytes are sent."""
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
        """Sets the timer, unless it already fires early enough."""
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
    """The value of `http` in `uvicorn.Config`, for one server. While it drains, each answer closes its connection.

    Raises RuntimeError if the installed uvicorn lacks a private name that this file uses.
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
    """uvicorn's server without its signal handlers: only the parent process handles signals."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by uvicorn on SIGTERM and SIGINT."""

    def end(self, at_once: bool = False) -> None:
        """Stops accepting connections, and ends when all running requests are answered; `at_once`: without waiting."""
        self.should_exit = True
        self.force_exit = self.force_exit or at_once
