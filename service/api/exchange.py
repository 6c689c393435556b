"""The path of a POST request from its head to its answer. This file has all stages.

    route → key → place → size and encoding → decode → task → document

Two adapters bring requests here: `connection.py`, which writes answers to the socket, and `asgi_adapter.py`, an ASGI
application on FastAPI's routes. Other requests (GET, HEAD, OPTIONS) go to FastAPI through `other_requests.py`.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from starlette.types import Receive

from service.api import spans
from service.api.arrival import Arrivals, ClientLeft
from service.api.gate import Gate
from service.api.request import Header, Request
from service.api.telemetry import Telemetry
from service.problem import Problem, draining, internal

log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """An answer, without the headers that every answer has."""

    status: int
    body: bytes
    media_type: str = "application/json"
    headers: Sequence[Header] = ()
    close: bool = False
    """Whether the connection is closed after this answer, because the rest of the request's body will not be read."""


class Endpoint(Protocol):
    """Answers the POST requests of a path."""

    path: str
    """In the form of FastAPI, with parameters in braces."""

    async def answer(self, request: Work, body: bytes) -> Answer:
        """Decodes the body, runs the task, encodes the result; raises Problem."""


class Work(Request):
    """A request for one of the endpoints, with the parameters of its path."""

    __slots__ = ("endpoint", "parameters")

    def __init__(
        self,
        method: str,
        path: str,
        headers: Sequence[Header],
        version: str,
        endpoint: Endpoint,
        parameters: dict[str, str],
    ) -> None:
        super().__init__(method, path, headers, version)
        self.endpoint = endpoint
        self.parameters = parameters


class Exchange:
    """Answers the requests of all endpoints."""

    def __init__(
        self, endpoints: Sequence[Endpoint], gate: Gate, arrivals: Arrivals, telemetry: Telemetry, otel: bool = False
    ) -> None:
        self._exact: dict[str, tuple[Endpoint, dict[str, str]]] = {
            endpoint.path: (endpoint, {}) for endpoint in endpoints if "{" not in endpoint.path
        }
        self._patterns = [(_pattern(endpoint.path), endpoint) for endpoint in endpoints if "{" in endpoint.path]
        self._gate = gate
        self._arrivals = arrivals
        self._telemetry = telemetry
        self._otel = otel

    def route(self, method: str, path: str) -> tuple[Endpoint, dict[str, str]] | None:
        """The endpoint of a request and the parameters of its path; None if no endpoint has this path."""
        if method != "POST":
            return None
        if found := self._exact.get(path):
            return found
        for pattern, endpoint in self._patterns:
            if match := pattern.fullmatch(path):
                return endpoint, match.groupdict()
        return None

    def open(self, method: str, path: str, headers: Sequence[Header], version: str) -> Work | None:
        """The record of a request whose head has just arrived; None if no endpoint has its path."""
        if (routed := self.route(method, path)) is None:
            return None
        return Work(method, path, headers, version, *routed)

    def refuse(self, request: Work) -> Answer | None:
        """The answer to a request that is rejected because of its head; None if its body must be read."""
        try:
            self._gate.check(request)
        except Problem as problem:
            return self._refusal(request, problem, close=problem.code in ("too_large", "invalid_request"))
        except Exception:
            log.exception("request %s failed", request.id)
            return self.failure(request)
        return None

    async def answer(self, request: Work, body: bytes | Receive) -> Answer:
        """The answer to a request that the gate has let in.

        `body` is ASGI's `receive` if the body has not arrived whole, or if the head does not declare its length. If the
        client leaves, the adapter sets `request.left` and cancels this call, which then raises ClientLeft.
        """
        if not self._otel:
            return await self._answer(request, body)
        with spans.request_span(request, request.endpoint.path) as span:
            answer = await self._answer(request, body)
            spans.end_span(span, answer.status)
            return answer

    async def _answer(self, request: Work, body: bytes | Receive) -> Answer:
        arrived = isinstance(body, bytes)
        try:
            if not isinstance(body, bytes):
                body = await self._arrivals.read(body)
                arrived = True
            return await request.endpoint.answer(request, body)
        except Problem as problem:
            return self._refusal(request, problem, close=not arrived)
        except asyncio.CancelledError:
            if request.left:
                raise ClientLeft from None
            return self._refusal(request, draining(), close=True)
        except ClientLeft:
            raise
        except Exception:
            log.exception("request %s failed", request.id)
            return self.failure(request, close=not arrived)

    def document(self, request: Request, answer: Answer) -> list[Header]:
        """The headers of an answer. Called just before the answer is written, because it stops the request's clock."""
        return [
            (b"content-length", b"%d" % len(answer.body)),
            (b"content-type", answer.media_type.encode("ascii")),
            *answer.headers,
            *self._telemetry.headers(request),
        ]

    def written(self, request: Request, answer: Answer) -> None:
        """Counts and logs an answer that has been written."""
        self._telemetry.answered(request, answer.status)

    def reject(self, request: Request, problem: Problem) -> Answer:
        """The answer to data that is not a request within the limits. After it, the connection is closed."""
        return self._refusal(request, problem, close=True)

    def failure(self, request: Request, close: bool = True) -> Answer:
        """The answer if our own code fails."""
        return self._refusal(request, internal(), close)

    @staticmethod
    def _refusal(request: Request, problem: Problem, close: bool) -> Answer:
        request.failure = problem.code
        body, media_type = problem.document(request.path, request.id)
        return Answer(problem.status, body, media_type, problem.headers(), close)


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))
