"""Request bodies: read whole within limits before the application runs, which is cancelled when the client leaves."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.models import Deadline
from service.problems import Problem, ended, problem_response
from service.refusal import Reason

# So much of a body lies in the server's buffers anyhow; short ones are read whatever the others do.
FREE_BYTES = 1 << 16


class ClientLeft(Exception):
    """The client closed the connection: nobody is there to be answered."""


class RequestBody:
    """ASGI middleware around POST requests."""

    def __init__(
        self,
        app: ASGIApp,
        max_bytes: int,
        max_reading_bytes: int,
        seconds: float,
        refusal: Reason,
    ) -> None:
        """A body may have `max_bytes`, all that are being read `max_reading_bytes`, and `seconds` to arrive in."""
        self._app = app
        self._max_bytes = max_bytes
        self._max_reading_bytes = max_reading_bytes
        self._seconds = seconds
        self._refusal = refusal
        self._reading_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers itself what is not read to its end, and what is cancelled by the server's own end."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        if refused := self._refusal(scope["path"]):
            # Nothing is spent on it, not even reading: what is refused costs what is served as little as can be.
            problem, scope["state"]["model"] = refused
            # A client that waits for a word before it sends its body may send it or not.
            waits = any(name == b"expect" for name, _ in scope["headers"])
            await self._answer(problem, scope, receive, send, {"Connection": "close"} if waits else None)
            return
        begun = False

        async def begin(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        # What is left of a body that is not read to its end would be taken for the next request.
        close = {"Connection": "close"}
        try:
            body = await self._read(scope, receive)
            _refuse_compressed(scope)
            await self._run(body, scope, receive, begin)
        except ClientLeft:
            pass
        except Problem as problem:
            await self._answer(problem, scope, receive, send, close)
        except asyncio.CancelledError:
            if begun:
                raise
            await self._answer(ended(), scope, receive, send, close)

    @staticmethod
    async def _answer(
        problem: Problem, scope: Scope, receive: Receive, send: Send, headers: dict[str, str] | None = None
    ) -> None:
        scope["state"]["failure"] = problem.code
        await problem_response(problem, scope, headers)(scope, receive, send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body. Raises ClientLeft, and Problem where the body is too large or too slow."""
        too_large = Problem(
            "too_large", f"the body is larger than {self._max_bytes} bytes; send fewer or shorter texts."
        )
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._max_bytes:
            raise too_large
        body, counted = bytearray(), 0
        try:
            with Deadline(self._seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientLeft
                    body += message.get("body", b"")
                    if len(body) > self._max_bytes:
                        raise too_large
                    if not message.get("more_body", False):
                        return bytes(body)
                    more = max(0, len(body) - FREE_BYTES) - counted
                    if more and self._reading_bytes + more > self._max_reading_bytes:
                        raise Problem("overloaded", "too many large requests are arriving at once; try again later.")
                    counted, self._reading_bytes = counted + more, self._reading_bytes + more
        except asyncio.TimeoutError:
            raise Problem(
                "body_timeout", f"the body had not arrived after {self._seconds:g} s; send it faster."
            ) from None
        finally:
            self._reading_bytes -= counted

    async def _run(self, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        """Has the application answer; raises ClientLeft if the client has, and the application is cancelled."""
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
        try:
            await self._app(scope, replay, send)
        except asyncio.CancelledError:
            if left:
                raise ClientLeft from None
            raise
        finally:
            done = True
            leaving.cancel()

    @staticmethod
    async def _disconnected(receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass


def _refuse_compressed(scope: Scope) -> None:
    """Raises Problem where the body is not sent as it is: a small one could unpack to any size."""
    encoding = dict(scope["headers"]).get(b"content-encoding", b"identity").decode("latin-1")
    if encoding.lower() != "identity":
        raise Problem("invalid_input", f"the body is sent as {encoding!r}; send it uncompressed.")
