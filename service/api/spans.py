"""OpenTelemetry spans of the exchange's requests: one for the request, with a child span for each stage."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind, StatusCode

from service.api.request import Request


@contextlib.contextmanager
def request_span(request: Request, route: str) -> Iterator[trace.Span]:
    """A span that lasts as long as the block, in the client's trace if the request names one. It contains no text."""
    carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.first_header.items()}
    attributes = {"http.request.method": request.method, "url.path": request.path, "http.route": route}
    tracer = trace.get_tracer("ernie")
    with tracer.start_as_current_span(
        f"{request.method} {route}",
        context=propagate.extract(carrier),
        kind=SpanKind.SERVER,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        yield span
        _stage_spans(tracer, request)


def end_span(span: trace.Span, status: int) -> None:
    """Records the status of the answer."""
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(StatusCode.ERROR)


def _stage_spans(tracer: trace.Tracer, request: Request) -> None:
    """One span per stage. The stages follow each other, and the last one has just finished."""
    if (timings := request.timings) is None:
        return
    end = time.time_ns()
    for name, seconds in (("inference", timings.inference), ("queue", timings.queue), ("tokenize", timings.tokenize)):
        start = end - int(seconds * 1e9)
        tracer.start_span(name, start_time=start).end(end)
        end = start
