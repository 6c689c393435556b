"""What every answer carries (X-Request-ID, Server-Timing) and what is counted of it."""

from __future__ import annotations

import logging
import re
import time
import uuid

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.metrics import Metrics

log = logging.getLogger(__name__)
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")


class Tracing:
    """ASGI middleware around everything else."""

    def __init__(self, app: ASGIApp, metrics: Metrics, log_requests: bool = False) -> None:
        self._app = app
        self._metrics = metrics
        self._log_requests = log_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Keeps the caller's request id where it is plain and short, and makes one otherwise."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        state = scope.setdefault("state", {})
        sent = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        state["request_id"] = sent.decode("ascii") if _REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex

        async def traced(message: Message) -> None:
            if message["type"] == "http.response.start":
                total = time.perf_counter() - started
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = state["request_id"]
                timings = state.get("timings")
                parts = [(name, getattr(timings, name)) for name in ("tokenize", "queue", "inference") if timings]
                headers["Server-Timing"] = ", ".join(
                    f"{name};dur={seconds * 1000:.3f}" for name, seconds in [*parts, ("total", total)]
                )
                self._count(scope, state, message["status"], total)
            await send(message)

        try:
            await self._app(scope, receive, traced)
        except Exception:
            # Starlette answers `internal` outside of every middleware; it is counted and named here.
            state["failure"] = "internal"
            self._count(scope, state, 500, time.perf_counter() - started)
            raise

    def _count(self, scope: Scope, state: dict[str, object], status: int, seconds: float) -> None:
        if self._log_requests:
            self._log(scope, state, status, seconds)
        if (endpoint := self._metrics.endpoint(scope["path"])) is None:
            return
        # A request that named no model of ours counts under none, so that callers cannot make up label values.
        model = str(state.get("model", ""))
        self._metrics.requests.labels(endpoint, model, str(status)).inc()
        self._metrics.duration.labels(model).observe(seconds)
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
            "model": state.get("model"),
            "failure": state.get("failure"),
        }
        log.info(
            "%s %s %d %.1f ms, request %s", scope["method"], path, status, seconds * 1000, state["request_id"],
            extra={name: value for name, value in fields.items() if value is not None},
        )  # fmt: skip
