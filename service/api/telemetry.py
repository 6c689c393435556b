"""The headers that every answer has (X-Request-ID, Server-Timing, CORS), its metrics and its log line."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware

from service.api.request import Header, Request, Timings
from service.endpoints import TOKENIZE
from service.metrics import Metrics
from service.problem import STATUS

log = logging.getLogger(__name__)

REFUSALS = (STATUS["overloaded"], STATUS["not_ready"])
"""Statuses of answers that mostly take no time. If they counted, an overloaded service would look fast."""


class Telemetry:
    """Completes the record of every request."""

    def __init__(self, metrics: Metrics, log_requests: bool, cors: CORSMiddleware | None) -> None:
        """`cors` defines which other sites may read the answers; None: no other site."""
        self._metrics = metrics
        self._log_requests = log_requests
        self._cors = cors

    def headers(self, request: Request) -> list[Header]:
        """Stops the clock of the request; returns the headers that every answer has."""
        request.seconds = time.perf_counter() - request.started
        timing = server_timing(request.timings, request.seconds)
        headers = [(b"x-request-id", request.id.encode("ascii")), (b"server-timing", timing.encode("ascii"))]
        if self._cors and not is_preflight(request):  # the answer to a preflight has other CORS headers
            headers += _cross_origin(self._cors, request)
        return headers

    def answered(self, request: Request, status: int) -> None:
        """Counts an answer, and logs it if `log_requests` is set."""
        if self._log_requests:
            self._log(request, status)
        if (endpoint := self._metrics.endpoint(request.path)) is None:
            return
        # `model` is empty or a name of the catalog, so clients cannot create new label values.
        self._metrics.answered(endpoint, request.model, status).inc()
        if status not in REFUSALS and endpoint != TOKENIZE:  # which does not run the model
            self._metrics.durations(request.model).observe(request.seconds)
        if request.failure:
            self._metrics.failures.labels(request.failure).inc()

    @staticmethod
    def _log(request: Request, status: int) -> None:
        # The path comes from the client: a line break in it must not start a new log line.
        path = request.path.encode("unicode_escape").decode("ascii")
        milliseconds = request.seconds * 1000
        fields = {
            "request_id": request.id,
            "method": request.method,
            "path": path,
            "status": status,
            "milliseconds": round(milliseconds, 3),
            "model": request.model or None,
            "failure": request.failure,
        }
        log.info(
            "%s %s %d %.1f ms, request %s", request.method, path, status, milliseconds, request.id,
            extra={name: value for name, value in fields.items() if value is not None},
        )  # fmt: skip


def server_timing(timings: Timings | None, total: float) -> str:
    """The value of Server-Timing, in milliseconds. It has the stages only if the request reached a model."""
    if timings is None:
        return f"total;dur={total * 1000:.3f}"
    return (
        f"tokenize;dur={timings.tokenize * 1000:.3f}, queue;dur={timings.queue * 1000:.3f}, "
        f"inference;dur={timings.inference * 1000:.3f}, total;dur={total * 1000:.3f}"
    )


def is_preflight(request: Request) -> bool:
    """Whether a browser asks if a page of another site may send a request."""
    names = b"origin", b"access-control-request-method"
    return request.method == "OPTIONS" and all(name in request.first_header for name in names)


def _cross_origin(cors: CORSMiddleware, request: Request) -> Sequence[Header]:
    """The CORS headers that Starlette's middleware sends with an answer that is not a preflight."""
    headers = [(b"vary", b"Origin")]
    if (origin := request.first_header.get(b"origin")) is not None:
        headers += [(name.lower().encode(), value.encode()) for name, value in cors.simple_headers.items()]
        if not cors.allow_all_origins and cors.is_allowed_origin(origin.decode("latin-1")):
            headers.append((b"access-control-allow-origin", origin))
    return headers
