"""Connections to an API process: a bound on how many are open, and on how long one may be without a request.

And the shortest way to an answer there is: of requests that are refused unread.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

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
        self._draining = draining
        self._refused_at_once = 0
        self._refused_unread = False
        self._idle = idle
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_request()
        if len(self.connections) > self._max_connections:
            next(iter(self._idle)).close()

    def data_received(self, data: bytes) -> None:
        self._refused_at_once = 0
        super().data_received(data)

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

    def send_400_response(self, msg: str) -> None:
        if self._refused_unread:
            self.close()  # a request has one answer, however its body goes on
        else:
            super().send_400_response(msg)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        # One that was refused just before it, in the same piece of data, has begun to count its silence.
        self._unset_keepalive_if_required()
        if self._draining():
            # Announced, or the client's next request would meet the end of the connection.
            cycle.keep_alive = False
        if not self._refuse(cycle):
            super()._start_asgi_task(cycle, app)

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
        cycle.response_started = cycle.response_complete = True  # what else comes of the request is dropped
        cycle.on_response = _nothing  # or connection and cycle would hold each other
        self.transport.write(answer)
        if not keep_alive:
            self.transport.close()
        self.on_response_complete()
        return True

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():  # no other is in the pipeline
            self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._await_no_request()
        super().connection_lost(exc)

    def close(self) -> None:
        """Ends it; what is still to be sent is sent."""
        self._await_no_request()
        self.transport.close()

    def _await_request(self) -> None:
        self._await_no_request()
        self._idle[self] = None
        self._timer = self.loop.call_later(self._idle_seconds, self.close)

    def _await_no_request(self) -> None:
        self._idle.pop(self, None)
        if self._timer:
            self._timer.cancel()
            self._timer = None


def _nothing() -> None:
    pass


def bounded(
    max_connections: int,
    head_seconds: float,
    refusal: Refusal | None = None,
    draining: Callable[[], bool] = lambda: False,
) -> Callable[..., Connection]:
    """What `uvicorn.Config` takes as `http`, for one server. While it drains, an answer ends its connection."""
    return functools.partial(
        Connection,
        max_connections=max_connections,
        head_seconds=head_seconds,
        refusal=refusal,
        draining=draining,
        idle={},
    )
