"""Answers as the bytes that uvicorn would send of the application's: for those that are made without it."""

from __future__ import annotations

import http
from collections.abc import Sequence
from typing import Any, NamedTuple

from starlette.types import Scope

from service.problems import Problem, problem_body, retry_after
from service.tracing import server_timing

Header = tuple[bytes, bytes]
_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in http.HTTPStatus}


class Answer(NamedTuple):
    """What is answered, but for what every answer carries."""

    status: int
    body: bytes
    media_type: str = "application/json"
    retry_after: str | None = None


def problem_answer(problem: Problem, scope: Scope) -> Answer:
    """The problem's document, as the answer to the request of `scope`."""
    scope["state"]["failure"] = problem.code
    body, media_type = problem_body(problem, scope)
    wait = retry_after(problem) if problem.status in (429, 503) else None
    return Answer(problem.status, body, media_type, wait)


def written(
    answer: Answer, state: dict[str, Any], seconds: float, keep_alive: bool, default_headers: Sequence[Header]
) -> bytes:
    """Head and body together. `state` is that of the request, and `seconds` the time that it took."""
    lines = [_LINES[answer.status]]
    for name, value in default_headers:
        lines += (name, b": ", value, b"\r\n")
    wait = f"retry-after: {answer.retry_after}\r\n" if answer.retry_after else ""
    close = "" if keep_alive else "connection: close\r\n"
    lines.append(
        f"{wait}content-length: {len(answer.body)}\r\ncontent-type: {answer.media_type}\r\n"
        f"x-request-id: {state['request_id']}\r\nserver-timing: {server_timing(state, seconds)}\r\n{close}\r\n".encode(
            "latin-1"
        )
    )
    lines.append(answer.body)
    return b"".join(lines)
