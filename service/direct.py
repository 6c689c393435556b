"""A short way to the two endpoints: FastAPI's routing and dependencies cost more than all the rest of a short request.

Whatever is not plainly a good request goes on to FastAPI, which holds the same endpoints and says what is wrong.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from fastapi import Request, Response
from pydantic import BaseModel, ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.problems import Problem, problem_response

Endpoint = Callable[[Any, Request], Awaitable[Response]]


class Direct:
    """ASGI middleware; the innermost one, so that it changes nothing of what the others see and do."""

    def __init__(self, app: ASGIApp, endpoints: Mapping[str, tuple[type[BaseModel], Endpoint]]) -> None:
        """`endpoints` are the bodies' models and the functions behind POST, by path."""
        self._app = app
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a good request itself."""
        found = self._endpoints.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if found is None or (b"content-type", b"application/json") not in scope["headers"]:
            await self._app(scope, receive, send)
            return
        model, endpoint = found
        message = await receive()  # the whole body: RequestBody has read it
        try:
            body = model.model_validate(msgspec.json.decode(message["body"]))
        except (msgspec.DecodeError, ValidationError, UnicodeDecodeError, RecursionError, Problem):
            await self._app(scope, _again(message, receive), send)
            return
        try:
            response = await endpoint(body, Request(scope))
        except Problem as problem:
            scope["state"]["failure"] = problem.code
            response = problem_response(problem, scope)
        await response(scope, receive, send)


def _again(message: Message, receive: Receive) -> Receive:
    """`receive` with a message before what it would give."""
    pending = [message]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay
