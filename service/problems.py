"""Errors as RFC 9457 problem documents, each with a stable `code` and one sentence; under /v2 as its protocol asks."""

from __future__ import annotations

import http
import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.types import Scope

log = logging.getLogger(__name__)

STATUS = {
    "invalid_json": 400,
    "unauthorized": 401,
    "not_found": 404,
    "model_not_found": 404,
    "method_not_allowed": 405,
    "body_timeout": 408,
    "wrong_task": 409,
    "too_large": 413,
    "invalid_input": 422,
    "overloaded": 429,
    "internal": 500,
    "not_ready": 503,
    "draining": 503,
    "engine_failed": 503,
    "deadline_exceeded": 504,
}


class ProblemDocument(BaseModel):
    """RFC 9457. `code` is stable, `detail` is for people."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str | None


_SCHEMA = {"application/problem+json": {"schema": ProblemDocument.model_json_schema()}}
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {
        "description": " or ".join(code for code, of in STATUS.items() if of == status),
        "content": _SCHEMA,
    }
    for status in sorted(set(STATUS.values()) - {500})
}
"""What any route may answer besides success, for the OpenAPI document."""

MAX_DETAIL_CHARACTERS = 500


class Problem(Exception):
    """An answer other than success. `code` is a key of STATUS, `detail` one sentence for the caller."""

    def __init__(self, code: str, detail: str, *, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.status = STATUS[code]
        self.retry_after = retry_after


def ended() -> Problem:
    """What is said where the service ends first."""
    return Problem("draining", "the service ended before the request was answered; send it again.")


def _shortened(detail: str) -> str:
    """What callers send is repeated to them, but not at any length, and not what UTF-8 cannot hold."""
    shown = detail if len(detail) <= MAX_DETAIL_CHARACTERS else f"{detail[:MAX_DETAIL_CHARACTERS]} … (shortened)."
    return shown.encode("utf-8", "backslashreplace").decode("utf-8")


def problem_response(problem: Problem, scope: Scope, headers: Mapping[str, str] | None = None) -> Response:
    """The document as a response to the request of `scope`; 503 and 429 carry Retry-After in whole seconds."""
    body, media_type = problem_body(problem, scope)
    sent = dict(headers or {})
    if problem.status in (429, 503):
        sent["Retry-After"] = retry_after(problem)
    return Response(body, problem.status, sent, media_type)


def problem_body(problem: Problem, scope: Scope) -> tuple[bytes, str]:
    """The document, and its media type."""
    detail = _shortened(problem.detail)
    if f"{scope['path']}/".startswith("/v2/"):
        return msgspec.json.encode({"error": detail}), "application/json"
    document = {
        "type": "about:blank",
        "title": http.HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": detail,
        "code": problem.code,
        "request_id": scope.get("state", {}).get("request_id"),
    }
    return msgspec.json.encode(document), "application/problem+json"


def retry_after(problem: Problem) -> str:
    """What Retry-After says of it: at least a second."""
    return str(max(1, problem.retry_after or 1))


def sentence(error: RequestValidationError) -> Problem:
    """The first thing that is wrong with a body, with the field it is in."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return Problem(
            "invalid_json", f"the body is not JSON: {first['ctx']['error']} at character {first['loc'][-1]}."
        )
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"][1:]).lstrip(".")
    message = {
        "extra_forbidden": "is not a field of this request",
        "missing": "is missing",
        "string_type": "must be a string",
        "string_unicode": "holds half of a surrogate pair, which is no character",
        "model_attributes_type": "must be a JSON object, sent as application/json",
    }.get(first["type"], first["msg"].removeprefix("Value error, ").removeprefix("Input "))
    return Problem("invalid_input", f"{where or 'the body'} {message}.")


def unreadable(cause: BaseException | None) -> Problem:
    """Why a body could not be decoded at all, which FastAPI tells only by the exception behind its own."""
    if isinstance(cause, UnicodeDecodeError):
        return Problem("invalid_json", f"the body is not UTF-8 at byte {cause.start}.")
    if isinstance(cause, RecursionError):
        return Problem("invalid_json", "the body is nested too deeply.")
    if isinstance(cause, ValueError):
        return Problem("invalid_json", "the body holds a number with too many digits.")
    return Problem("invalid_json", "the body is not JSON in UTF-8.")


def install(app: FastAPI) -> None:
    """Makes every error of `app` a problem document."""

    def request_id(request: Request) -> str | None:
        found: str | None = getattr(request.state, "request_id", None)
        return found

    @app.exception_handler(Problem)
    async def _problem(request: Request, error: Problem) -> Response:
        request.state.failure = error.code
        return problem_response(error, request.scope)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        return await _problem(request, sentence(error))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        path = request.url.path
        known = {
            400: unreadable(error.__cause__),
            404: Problem("not_found", f"there is nothing at {path}; see /docs."),
            405: Problem("method_not_allowed", f"{request.method} is not allowed at {path}; see /docs."),
        }
        problem = known.get(error.status_code) or Problem("internal", str(error.detail))
        request.state.failure = problem.code
        return problem_response(problem, request.scope, error.headers)

    @app.exception_handler(Exception)
    async def _internal(request: Request, error: Exception) -> Response:
        log.exception("request %s failed", request_id(request), exc_info=error)
        response = await _problem(request, Problem("internal", "the service failed; the log names this request's id."))
        # Only this answer passes by the middleware that names all others.
        response.headers["X-Request-ID"] = request_id(request) or ""
        return response
