"""Connections to an API process: a bound on how many are open, and on how long one may be without a request.

And the shortest way to an answer there is: of requests that are refused unread.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.refusal import Refusal


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
        idle: dict[Connection, None],
        **more: Any,
    ) -> None:
        """`idle` is shared: the connections without a request, the one that has been so longest first."""
        super().__init__(*uvicorns, **more)
        self._max_connections = max_connections
        # uvicorn ends one that is silent after an answer; this is for one that has said something, but no whole head.
        self._idle_seconds = self.timeout_keep_alive + head_seconds
        self._refusal = refusal
        self._idle = idle
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_request()
        if len(self.connections) > self._max_connections:
            next(iter(self._idle)).close()

    def on_headers_complete(self) -> None:
        self._await_no_request()
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        # A client that does not read what it is told, or has sent its next requests already, is not hurried through
        # here: its answers would pile up, and the other clients wait.
        if self._refusal and not self.pipeline and not self.flow.write_paused:
            answer = self._refusal(cycle.scope, cycle.keep_alive, cycle.default_headers)  # type: ignore[arg-type]
            if answer:
                cycle.response_started = cycle.response_complete = True  # what else comes of the request is dropped
                self.transport.write(answer)
                if not cycle.keep_alive:
                    self.transport.close()
                self.on_response_complete()
                return
        super()._start_asgi_task(cycle, app)

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


def bounded(max_connections: int, head_seconds: float, refusal: Refusal | None = None) -> Callable[..., Connection]:
    """What `uvicorn.Config` takes as `http`, for one server."""
    return functools.partial(
        Connection, max_connections=max_connections, head_seconds=head_seconds, refusal=refusal, idle={}
    )
