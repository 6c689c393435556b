"""Connections of clients. This is the only file that uses private names of uvicorn.

Connection extends uvicorn's class. It limits heads, silence and unsent bytes. It passes the requests of the exchange to
it and writes their answers; uvicorn passes all other requests to FastAPI.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
from collections.abc import Callable
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from service.api.answer_bytes import FIRST_BYTES, answer_bytes
from service.api.arrival import ClientLeft
from service.api.exchange import Answer, Exchange, Work
from service.api.heads import check_size, check_target, head_too_large, head_too_slow, parser_problem, without_offer
from service.api.limited_connection import LimitedConnection
from service.api.request import Header, Request
from service.api.required_names import missing_name
from service.api.shared import Shared
from service.problem import Problem
from service.settings import Settings

log = logging.getLogger(__name__)

# Limit of requests of one connection that wait for the answer to an earlier one. If there are more, it is closed.
MAX_PIPELINED = 100
# Limit of rejected requests that arrive together on one connection. After them the connection is closed.
MAX_REFUSED_AT_ONCE = 64

# The private names of uvicorn that this file uses: attributes of classes, and names that methods of uvicorn must use.
ATTRIBUTES = {
    HttpToolsProtocol: (
        "connections cycle expect_100_continue flow headers loop parser pipeline scope server_state tasks "
        "timeout_keep_alive transport _start_asgi_task on_body on_header on_headers_complete on_message_begin "
        "on_message_complete on_response_complete on_url pause_writing resume_writing"
    ),
    FlowControl: "drain pause_reading read_paused resume_reading write_paused",
    ServerState: "default_headers total_requests",
    RequestResponseCycle: (
        "body default_headers disconnected keep_alive message_event more_body on_response receive response_complete "
        "response_started scope waiting_for_100_continue"
    ),
}
CALLS: dict[Any, str] = {
    HttpToolsProtocol.on_headers_complete: "_start_asgi_task on_response_complete pipeline",
    HttpToolsProtocol.on_body: "body flow message_event pause_reading response_complete",
    HttpToolsProtocol.on_message_begin: "headers url",
    HttpToolsProtocol.on_message_complete: "message_event more_body response_complete",
    HttpToolsProtocol.on_header: "expect_100_continue headers",
}


def check_uvicorn() -> None:
    """Raises RuntimeError with the name if the installed uvicorn lacks one of the private names that this file uses."""
    if missing := missing_name(ATTRIBUTES, CALLS):
        raise RuntimeError(
            f"uvicorn {uvicorn.__version__} does not fit: {missing}; install the release that ernie-zh requires."
        )


class Connection(LimitedConnection, HttpToolsProtocol):
    """One connection of a client."""

    def __init__(self, *uvicorns: Any, shared: Shared, **more: Any) -> None:
        super().__init__(*uvicorns, shared=shared, **more)
        self._exchange = shared.exchange
        self._draining = shared.draining
        self._head_limits = shared.settings.max_head_bytes, shared.settings.max_head_fields
        self._answering: tuple[Work, asyncio.Task[None]] | None = None
        self._refused_at_once = 0
        self._refused_unread = False
        self._rejected: Problem | None = None
        self._early = 0
        self._in_head = self._head_timed = False
        self._trailers: list[Header] = []
        # The sizes of the last piece of data, of the piece with the start of the request, and of all pieces after this
        # one or after the last part of the body. They limit what the parser keeps, and show which heads are small.
        self._piece_bytes = self._first_bytes = self._incomplete_bytes = 0

    def data_received(self, data: bytes) -> None:
        if self._rejected:
            return
        self._refused_at_once = 0
        self._piece_bytes = len(data)
        self._incomplete_bytes += self._piece_bytes
        try:
            self.parser.feed_data(data)
            if self._incomplete_bytes > self._head_limits[0]:
                raise head_too_large(*self._head_limits)
            if self._in_head:
                self._head_incomplete()
        except httptools.HttpParserUpgrade as offer:
            self._ignore_upgrade(data[offer.args[0] :])
        except httptools.HttpParserError as error:
            self._reject(parser_problem(error))
        except Problem as problem:
            self._reject(problem)

    def _head_incomplete(self) -> None:
        if len(self.headers) > self._head_limits[1]:
            raise head_too_large(*self._head_limits)
        if not self._head_timed and self._silence.until != math.inf:
            self._limit_head()

    def on_message_begin(self) -> None:
        self._in_head = True
        self._head_timed = self._refused_unread = False
        self._first_bytes = self._piece_bytes
        self._incomplete_bytes = 0
        self._trailers.clear()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """As in uvicorn, but without adding trailers to the head: nothing in them was checked."""
        if not self._in_head:
            self._trailers.append((name, value))
            check_size(self.url, self.headers + self._trailers, *self._head_limits)
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._ended or self.transport.is_closing():
            return  # data after the end of a connection is not a request
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise Problem("method_not_allowed", "CONNECT is not allowed: this service is not a proxy.")
            return
        if (
            self._first_bytes + self._incomplete_bytes > self._head_limits[0]
            or len(self.headers) > self._head_limits[1]
        ):
            check_size(self.url, self.headers, *self._head_limits)
        check_target(self.url)
        if len(self.pipeline) >= MAX_PIPELINED:
            self.abort()
            return
        self._in_head = False
        self._idle.pop(self, None)
        self._silence.until = math.inf
        super().on_headers_complete()
        if self.pipeline:
            self._shared.departures.watch(self, self.loop)

    def on_body(self, body: bytes) -> None:
        # As in uvicorn, but without asking the parser for an offer to upgrade: after one, this is not called.
        self._incomplete_bytes = 0
        cycle = self.cycle
        if self._in_head or cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        if self._in_head:
            return  # the head was not accepted, or it offers an upgrade
        if self._refused_unread:
            self._refused_unread = False
            self._silence.limit(self.timeout_keep_alive)
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Continues without the offer of another protocol: after an offer, the parser does not expect a body."""
        head = without_offer(self.parser.get_method(), self.url, self.parser.get_http_version(), self.headers)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as in uvicorn
        self.data_received(head + rest)

    def _reject(self, problem: Problem) -> None:
        """Ends the connection because its data is not a valid request. Earlier requests are still answered."""
        if self._ended or self.transport.is_closing():
            return
        self._rejected = problem
        cycle = self.cycle
        if self._refused_unread:
            self.linger()  # the request already has its answer; its body does not matter
        elif cycle is None or cycle.response_complete:
            self._answer_rejected()
        elif not self._in_head and cycle.more_body:
            if self.pipeline:
                self.pipeline.popleft()
            else:
                self._drop(cycle)
                self._answer_rejected()

    def _drop(self, cycle: RequestResponseCycle) -> None:
        """Ends the work for a request without an answer."""
        cycle.disconnected = True
        cycle.on_response = _nothing
        cycle.message_event.set()
        if self._answering:
            request, task = self._answering
            self._answering = None
            request.left = True
            task.cancel()

    def _answer_rejected(self) -> None:
        assert self._rejected
        request = Request("", "", self.headers if self._in_head else ())
        answer = self._exchange.reject(request, self._rejected)
        self._idle.pop(self, None)
        self._silence.until = math.inf
        try:
            self._write(request, answer, self.server_state.default_headers, keep_alive=False)
            self.linger()
        except Exception:
            log.exception("the answer to request %s could not be written or counted", request.id)
            self.abort()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Called with a request whose head has arrived, when the earlier requests of the connection are answered."""
        if self._draining():
            # The answer announces that the connection closes; otherwise the client's next request would fail.
            cycle.keep_alive = False
        scope: Any = cycle.scope
        exchange = self._exchange
        try:
            request = exchange.open(scope["method"], scope["path"], scope["headers"], scope["http_version"])
            answer = exchange.refuse(request) if request else None
        except Exception:
            # In a callback of the parser, which would report it as an error of the client.
            log.exception("a request could not be accepted")
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
        try:
            answer = refusal
            if answer is None:
                # The gate has checked the size of a body only if the head declares it. Above HIGH_WATER_LIMIT uvicorn
                # has paused reading, and only `receive` resumes it.
                declared = b"content-length" in request.first_header and len(cycle.body) <= HIGH_WATER_LIMIT
                body: Any = bytes(cycle.body) if declared and not cycle.more_body else cycle.receive
                answer = await self._exchange.answer(request, body)
            if self.flow.write_paused:
                self._unwritten_bytes = len(answer.body)
                await self.flow.drain()
        except (ClientLeft, asyncio.CancelledError):
            return
        finally:
            self._unwritten_bytes = 0
            self._answering = None
        if cycle.disconnected:
            return
        if refusal:
            self._refuse(cycle, request, refusal)
        else:
            self._finish(cycle, request, answer)

    def _finish(self, cycle: RequestResponseCycle, request: Request, answer: Answer) -> None:
        cycle.keep_alive = cycle.keep_alive and not answer.close and not self._draining()
        cycle.response_started = cycle.response_complete = True  # the rest of the request is dropped
        cycle.on_response = _nothing  # otherwise connection and cycle would keep each other in memory
        try:
            self._write(request, answer, cycle.default_headers, cycle.keep_alive)
            if not cycle.keep_alive:
                # A client that sends many requests without waiting for their answers is not waited for either.
                if self._refused_at_once < MAX_REFUSED_AT_ONCE and (cycle.more_body or self.flow.read_paused):
                    self.linger()
                else:
                    self.close()
        except Exception:
            log.exception("the answer to request %s could not be written or counted", request.id)
            self.abort()
        self.on_response_complete()

    def _write(
        self, request: Request, answer: Answer, default_headers: list[tuple[bytes, bytes]], keep_alive: bool
    ) -> None:
        """Writes and counts an answer."""
        headers = [*default_headers, *self._exchange.document(request, answer)]
        sent, self._early = self._early, 0
        self.transport.write(answer_bytes(answer.status, headers, answer.body, keep_alive, sent))
        self._exchange.written(request, answer)

    def on_response_complete(self) -> None:
        # As in uvicorn, except for the timer.
        self.server_state.total_requests += 1
        if self._ended:
            return
        if self.transport.is_closing():
            self._shared.table.ended(self)
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._rejected:
            self._answer_rejected()
        elif self._half_closed:
            self.close()
        else:
            self._idle[self] = None
            if self._in_head:
                self._limit_head()
            else:
                self._silence.limit(self.timeout_keep_alive)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keeps the connection if a request is being answered: the client may have closed only its direction."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete or (cycle.more_body and not self.pipeline):
            return False
        if cycle.more_body:
            self.pipeline.popleft()  # the rest of its body cannot arrive
        else:
            cycle.keep_alive = False
        self._half_closed = True
        self.half_closed()
        self._shared.departures.watch(self, self.loop)
        return True

    def half_closed(self) -> None:
        """Sends the first bytes of the answer: if the client has left, its kernel rejects them."""
        if not self._answering or self._early or self.transport.get_write_buffer_size():
            return
        request, _ = self._answering
        if b"expect" not in request.first_header:  # such a client may still get "100 Continue"
            self._early = len(FIRST_BYTES)
            self.transport.write(FIRST_BYTES)

    def file_number(self) -> int:
        """The file descriptor of the socket if a client that leaves would not be noticed otherwise, else -1."""
        unread = self._half_closed or self.flow.read_paused
        ended = self._ended or self.transport.is_closing()
        return super().file_number() if self._answering and unread and not ended else -1

    def connection_lost(self, exc: Exception | None) -> None:
        for cycle in (self.cycle, *(each for each, _ in self.pipeline)):
            if cycle:
                cycle.on_response = _nothing  # as in _finish
        super().connection_lost(exc)
        if self._answering:
            request, task = self._answering
            request.left = True
            task.cancel()

    def linger(self) -> None:
        if not self._half_closed:
            self.flow.resume_reading()
        super().linger()

    def _limit_head(self) -> None:
        self._head_timed = True
        self._silence.limit(self._shared.settings.head_seconds)

    def silent(self) -> None:
        if self._in_head:
            self._reject(head_too_slow(self._shared.settings.head_seconds))
        else:
            self.close()


def _nothing() -> None:
    pass


def connections(
    settings: Settings, exchange: Exchange, draining: Callable[[], bool] = lambda: False
) -> Callable[..., Connection]:
    """The value of `http` in `uvicorn.Config`, for one server. While it drains, each answer closes its connection.

    Raises RuntimeError if the installed uvicorn lacks a private name that this file uses.
    """
    check_uvicorn()
    return functools.partial(Connection, shared=Shared.of(settings, exchange, draining))
