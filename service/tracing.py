"""What every answer carries (X-Request-ID, Server-Timing), and what is counted and logged of it."""

from __future__ import annotations

import logging
import re
import secrets
import time
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.metrics import Metrics
from service.problems import STATUS

log = logging.getLogger(__name__)
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")


class Tracing:
    """ASGI middleware around everything else."""

    def __init__(self, app: ASGIApp, journal: Journal) -> None:
        self._app = app
        self._journal = journal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Gives the request its id, and its answer what every answer carries."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        state = scope.setdefault("state", {})
        state["request_id"] = request_id(scope)

        async def traced(message: Message) -> None:
            if message["type"] == "http.response.start":
                total = time.perf_counter() - started
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = state["request_id"]
                headers["Server-Timing"] = server_timing(state, total)
                self._journal.answered(scope, message["status"], total)
            await send(message)

        try:
            await self._app(scope, receive, traced)
        except Exception:
            # Starlette answers `internal` outside of every middleware; it is counted and named here.
            state["failure"] = "internal"
            self._journal.answered(scope, 500, time.perf_counter() - started)
            raise


def request_id(scope: Scope) -> str:
    """The caller's where it is plain and short, a new one otherwise."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return value.decode("ascii")
    return secrets.token_hex(16)


def server_timing(state: dict[str, Any], total: float) -> str:
    """The header of a request that took `total` seconds; `state` holds its Timings once it has a model."""
    if (timings := state.get("timings")) is None:
        return f"total;dur={total * 1000:.3f}"
    return (
        f"tokenize;dur={timings.tokenize * 1000:.3f}, queue;dur={timings.queue * 1000:.3f}, "
        f"inference;dur={timings.inference * 1000:.3f}, total;dur={total * 1000:.3f}"
    )


REFUSALS = (STATUS["overloaded"], STATUS["not_ready"])
"""Statuses of answers that took no time, of which many would make a service in trouble look fast."""


class Journal:
    """Counts what has been answered, and logs it if that is asked for."""

    def __init__(self, metrics: Metrics, log_requests: bool) -> None:
        self._metrics = metrics
        self._log_requests = log_requests

    def answered(self, scope: Scope, status: int, seconds: float) -> None:
        """Notes one answer; `scope["state"]` holds the request's id, and its model and failure where it has them."""
        state = scope["state"]
        if self._log_requests:
            self._log(scope, state, status, seconds)
        if (endpoint := self._metrics.endpoint(scope["path"])) is None:
            return
        # The names are those of models that there are, so that callers cannot make up label values; else there is none.
        model = str(state.get("model", ""))
        self._metrics.answered(endpoint, model, status).inc()
        if status not in REFUSALS:
            self._metrics.durations(model).observe(seconds)
        if "failure" in state:
            self._metrics.failures.labels(str(state["failure"])).inc()

    @staticmethod
    def _log(scope: Scope, state: dict[str, object], status: int, seconds: float) -> None:
        # The path is what the caller wrote; a newline in it must not begin a line of the log.
        path = scope["path"].encode("unicode_escape").decode("ascii")
        fields = {
            "request_id": state["request_id"],
            "method": scope["method"],
            "path": path,
            "status": status,
            "milliseconds": round(seconds * 1000, 3),
            "model": state.get("model") or None,
            "failure": state.get("failure"),
        }
        log.info(
            "%s %s %d %.1f ms, request %s", scope["method"], path, status, seconds * 1000, state["request_id"],
            extra={name: value for name, value in fields.items() if value is not None},
        )  # fmt: skip
