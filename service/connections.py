"""Connections to an API process: a bound on how many are open, and on how long one may be without a request.

And the shortest ways to an answer: of requests that are refused unread, and of those that are plain.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.direct import Direct
from service.refusal import Refusal

log = logging.getLogger(__name__)

# Requests of one connection that wait for an earlier one to be answered; who sends more ahead is not listened to.
MAX_PIPELINED = 100
# Of requests that arrive at once over one connection, so many are refused before others have their turn.
MAX_REFUSED_AT_ONCE = 64


class Connection(HttpToolsProtocol):
    """uvicorn's. Of those without a request the one that has been so longest gives way to a new connection.

    Where every other one has a request, the new one is closed.
    """

    def __init__(
        self,
        *uvicorns: Any,
        max_connections: int,
        head_seconds: float,
        refusal: Refusal | None,
        direct: Direct | None,
        draining: Callable[[], bool],
        idle: dict[Connection, None],
        **more: Any,
    ) -> None:
        """`idle` is shared: the connections without a request, the one that has been so longest first."""
        super().__init__(*uvicorns, **more)
        self._max_connections = max_connections
        # uvicorn ends one that is silent after an answer; this is for one that has said something, but no whole head.
        self._idle_seconds = self.timeout_keep_alive + head_seconds
        self._refusal = refusal
        self._direct = direct
        self._undecided: tuple[RequestResponseCycle, Any] | None = None
        self._answering: asyncio.Task[None] | None = None
        self._draining = draining
        self._refused_at_once = 0
        self._refused_unread = False
        self._idle = idle
        # When it is closed unless something comes, or a whole head. The timer is set anew only where it would be too
        # late: two timers for each request cost more than to look at the clock once in a while.
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
        if self._undecided:  # the body has not come together with its head
            self._decide()

    def on_message_begin(self) -> None:
        self._refused_unread = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self.transport.is_closing():
            return  # what comes after the end of a connection is no request
        if len(self.pipeline) >= MAX_PIPELINED:
            self._await_no_request()
            self.transport.abort()
            return
        self._await_no_request()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._refused_unread = False
        super().on_message_complete()
        if self._undecided:
            self._decide()

    def send_400_response(self, msg: str) -> None:
        if self._refused_unread:
            self.close()  # a request has one answer, however its body goes on
        else:
            super().send_400_response(msg)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if self._draining():
            # Announced, or the client's next request would meet the end of the connection.
            cycle.keep_alive = False
        if self._refuse(cycle):
            return
        if self._may_be_direct(cycle):
            self._undecided = cycle, app
        else:
            super()._start_asgi_task(cycle, app)

    def _may_be_direct(self, cycle: RequestResponseCycle) -> bool:
        direct = self._direct
        if direct is None or cycle.waiting_for_100_continue or self.flow.write_paused:
            return False
        return direct.takes(cycle.scope)  # type: ignore[arg-type]

    def _decide(self) -> None:
        """Starts the request that waits for its body, with what there is of it."""
        assert self._undecided
        assert self._direct
        (cycle, app), self._undecided = self._undecided, None
        asked = None if cycle.more_body else self._direct.read(cycle.scope, cycle.body)  # type: ignore[arg-type]
        if asked is None:
            super()._start_asgi_task(cycle, app)
            return
        self._answering = task = self.loop.create_task(self._answer(cycle, app, asked))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    async def _answer(self, cycle: RequestResponseCycle, app: Any, asked: Any) -> None:
        """Writes the answer, unless the client leaves, which cancels this, as the end of the service does."""
        assert self._direct
        scope: Any = cycle.scope
        try:
            answer = await self._direct.answer(scope, asked)
            if self.flow.write_paused:
                await self.flow.drain()
        except asyncio.CancelledError:
            if cycle.disconnected:
                return
            answer, cycle.keep_alive = self._direct.cut_off(scope), False
        except Exception:
            log.exception("a request failed on the short way; the application answers instead")
            super()._start_asgi_task(cycle, app)
            return
        finally:
            self._answering = None
        if not cycle.disconnected:
            self._finish(cycle, self._direct.written(answer, scope, cycle.keep_alive, cycle.default_headers))
            self._direct.note(answer, scope)

    def _refuse(self, cycle: RequestResponseCycle) -> bool:
        """Answers the request if there is no place for it, unless the client does not read what it is told."""
        if self._refusal is None or self.flow.write_paused:
            return False
        # Whether a body still comes is open where the client waits for a word, and others wait where there is no end.
        last = cycle.waiting_for_100_continue or self._refused_at_once + 1 == MAX_REFUSED_AT_ONCE
        keep_alive = cycle.keep_alive and not last
        try:
            answer = self._refusal(cycle.scope, keep_alive, cycle.default_headers)  # type: ignore[arg-type]
        except Exception:
            log.exception("a refusal failed; the application answers instead")
            return False
        if answer is None:
            return False
        self._refused_at_once += 1
        self._refused_unread = cycle.more_body
        cycle.keep_alive = keep_alive
        self._finish(cycle, answer)
        return True

    def _finish(self, cycle: RequestResponseCycle, answer: bytes) -> None:
        cycle.response_started = cycle.response_complete = True  # what else comes of the request is dropped
        cycle.on_response = _nothing  # or connection and cycle would hold each other
        self.transport.write(answer)
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def on_response_complete(self) -> None:
        # As uvicorn has it, but for the timer.
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            if self._undecided:
                self._decide()
        else:
            self._silent_until = self.loop.time() + self.timeout_keep_alive
            self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._await_no_request()
        if self._timer:
            self._timer.cancel()
        super().connection_lost(exc)
        self._undecided = None
        if self._answering:
            self._answering.cancel()

    def close(self) -> None:
        """Ends it; what is still to be sent is sent."""
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
        """Sees to it that the timer ends no later than the time for a request does."""
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


def bounded(
    max_connections: int,
    head_seconds: float,
    refusal: Refusal | None = None,
    direct: Direct | None = None,
    draining: Callable[[], bool] = lambda: False,
) -> Callable[..., Connection]:
    """What `uvicorn.Config` takes as `http`, for one server. While it drains, an answer ends its connection."""
    return functools.partial(
        Connection,
        max_connections=max_connections,
        head_seconds=head_seconds,
        refusal=refusal,
        direct=direct,
        draining=draining,
        idle={},
    )
