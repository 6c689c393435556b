"""Request bodies: read whole within a limit before the application runs, which is cancelled when the client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.problems import Problem, problem_response


class ClientLeft(Exception):
    """The client closed the connection before its body had arrived."""


class RequestBody:
    """ASGI middleware around POST requests."""

    def __init__(
        self,
        app: ASGIApp,
        max_bytes: int,
        in_progress: set[asyncio.Task[Any]],
        refusal: Callable[[str], Problem | None],
    ) -> None:
        """`in_progress` holds the requests whose bodies have been read and whose answers are being made.

        `refusal` says why nothing at a path can be answered now, if that is so.
        """
        self._app = app
        self._refusal = refusal
        self._max_bytes = max_bytes
        self._in_progress = in_progress

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers `too_large` itself, without reading on."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        if problem := self._refusal(scope["path"]):
            # Nothing is spent on it, not even reading: what is refused costs what is served as little as can be.
            scope["state"]["failure"] = problem.code
            await problem_response(problem, scope)(scope, receive, send)
            return
        try:
            body = await self._read(scope, receive)
        except ClientLeft:
            return
        except Problem as problem:
            scope["state"]["failure"] = problem.code
            # What is left of the body is not read, so the connection cannot be used again.
            response = problem_response(problem, scope, {"Connection": "close"})
            await response(scope, receive, send)
            return
        await self._run(body, scope, receive, send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        too_large = Problem(
            "too_large", f"the body is larger than {self._max_bytes} bytes; send fewer or shorter texts."
        )
        if declared.isdigit() and int(declared) > self._max_bytes:
            raise too_large
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            body += message.get("body", b"")
            if len(body) > self._max_bytes:
                raise too_large
            if not message.get("more_body", False):
                return bytes(body)

    async def _run(self, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return pending.pop() if pending else await receive()

        answering = asyncio.current_task()
        assert answering is not None
        left = done = False

        def leave(_: asyncio.Task[None]) -> None:
            nonlocal left
            if not done:
                left = answering.cancel()

        leaving = asyncio.create_task(self._disconnected(receive))
        leaving.add_done_callback(leave)
        self._in_progress.add(answering)
        try:
            await self._app(scope, replay, send)
        except asyncio.CancelledError:
            if not left:
                raise
        finally:
            done = True
            leaving.cancel()
            self._in_progress.discard(answering)

    @staticmethod
    async def _disconnected(receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
