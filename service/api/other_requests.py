"""ASGI middleware around FastAPI for health, models, metrics, documentation and the page.

These requests also need an id, the check of the API key, Server-Timing, metrics and a log line. The requests of the
exchange pass through unchanged, because the exchange does all of this for them.
"""

from __future__ import annotations

import logging

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.exchange import Exchange
from service.api.gate import Gate
from service.api.request import Request
from service.api.telemetry import Telemetry, is_preflight
from service.problem import Problem, internal

log = logging.getLogger(__name__)


class OtherRequests:
    """ASGI middleware around the whole application."""

    def __init__(
        self, app: ASGIApp, exchange: Exchange, gate: Gate, telemetry: Telemetry, cors: CORSMiddleware | None
    ) -> None:
        self._app = app
        self._exchange = exchange
        self._gate = gate
        self._telemetry = telemetry
        self._cors = cors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers CORS preflights and requests without a valid key; the application answers the others."""
        if scope["type"] != "http" or self._exchange.route(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        request = Request(scope["method"], scope["path"], scope["headers"], scope["http_version"])
        scope.setdefault("state", {})["request"] = request
        started = False

        async def recorded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", ()), *self._telemetry.headers(request)]
                self._telemetry.answered(request, message["status"])
            await send(message)

        try:
            self._gate.check_head(request)
            if self._cors and is_preflight(request):
                await self._cors.preflight_response(Headers(scope=scope))(scope, receive, recorded)
                return
            self._gate.check_key(request)
            await self._app(scope, receive, recorded)
        except Problem as problem:
            await problem_response(request, problem)(scope, receive, recorded)
        except Exception:
            log.exception("request %s failed", request.id)
            if started:
                raise
            await problem_response(request, internal())(scope, receive, recorded)


def problem_response(request: Request, problem: Problem) -> Response:
    """The document of a problem as a Starlette response."""
    request.failure = problem.code
    body, media_type = problem.document(request.path, request.id)
    headers = {name.decode(): value.decode() for name, value in problem.headers()}
    if problem.code == "invalid_request":
        headers["connection"] = "close"
    return Response(body, problem.status, headers, media_type)
