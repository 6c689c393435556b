"""The exchange as an ASGI application, for FastAPI's routes, the test client and other servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request as StarletteRequest
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from service.api.arrival import ClientLeft
from service.api.exchange import Exchange
from service.api.request import Request


class AsgiAdapter:
    """Answers the requests of the exchange's endpoints."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends nothing if the client leaves first."""
        exchange = self._exchange
        request = exchange.open(scope["method"], scope["path"], scope["headers"], scope["http_version"])
        if request is None:  # FastAPI's routes also match a path with a line break at its end
            raise HTTPException(404)
        answer = exchange.refuse(request)
        # A client that waits for "100 Continue" may send its body or not. Its next request could be that body.
        close = answer is not None and b"expect" in request.first_header
        if answer is None:
            watched = _Watched(request, receive)
            try:
                answer = await exchange.answer(request, watched.receive)
            except ClientLeft:
                return
            finally:
                watched.stop()
        headers = exchange.document(request, answer)
        if answer.close or close:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})
        exchange.written(request, answer)


class _Watched:
    """ASGI's `receive`. After the end of the body it watches for the end of the connection."""

    def __init__(self, request: Request, receive: Receive) -> None:
        self._request = request
        self._receive = receive
        self._answering = asyncio.current_task()
        self._watching: asyncio.Task[None] | None = None

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._watching = asyncio.create_task(self._watch())
        return message

    def stop(self) -> None:
        """Stops watching."""
        if self._watching:
            self._watching.cancel()

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        assert self._answering
        self._request.left = True
        self._answering.cancel()


class ExchangeRoute(APIRoute):
    """A route that FastAPI documents. The exchange answers its requests."""

    def get_route_handler(self) -> Callable[[StarletteRequest], Coroutine[Any, Any, Any]]:
        """Returns the endpoint, which reads the body itself."""

        async def handler(request: StarletteRequest) -> Any:
            return request.app.state.endpoint

        return handler
