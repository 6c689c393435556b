"""Errors as RFC 9457 problem documents with a stable `code` and one sentence; under /v2 in the form of its protocol."""

from __future__ import annotations

import http

import msgspec

STATUS = {
    "invalid_json": 400,
    "invalid_request": 400,
    "unauthorized": 401,
    "not_found": 404,
    "model_not_found": 404,
    "method_not_allowed": 405,
    "body_timeout": 408,
    "head_timeout": 408,
    "wrong_task": 409,
    "too_large": 413,
    "unsupported_encoding": 415,
    "invalid_input": 422,
    "refused_input": 422,
    "overloaded": 429,
    "head_too_large": 431,
    "internal": 500,
    "not_ready": 503,
    "draining": 503,
    "engine_failed": 503,
    "deadline_exceeded": 504,
}
MAX_DETAIL_CHARACTERS = 500


class ProblemDocument(msgspec.Struct):
    """RFC 9457. `code` is stable, `detail` is for people."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str | None


class Problem(Exception):
    """An answer that is an error. `code` is a key of STATUS, `detail` is one sentence for the client."""

    def __init__(self, code: str, detail: str, *, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.status = STATUS[code]
        self.retry_after = retry_after

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers that the status requires: 429 and 503 have Retry-After in whole seconds, at least 1.

        415 has the encodings that are accepted (RFC 9110, section 15.5.16).
        """
        if self.status in (429, 503):
            return [(b"retry-after", str(max(1, self.retry_after or 1)).encode())]
        if self.status == 415:
            return [(b"accept-encoding", b"identity")]
        return [(b"www-authenticate", b"Bearer")] if self.status == 401 else []

    def document(self, path: str, request_id: str) -> tuple[bytes, str]:
        """The body of the answer to a request for `path`, and its media type."""
        detail = _shortened(self.detail)
        if f"{path}/".startswith("/v2/"):
            return msgspec.json.encode({"error": detail}), "application/json"
        title = http.HTTPStatus(self.status).phrase
        document = ProblemDocument("about:blank", title, self.status, detail, self.code, request_id)
        return msgspec.json.encode(document), "application/problem+json"


def draining() -> Problem:
    """The answer to a request that is still running when the service ends."""
    return Problem("draining", "the service ended before the request was answered; send it again.")


def internal() -> Problem:
    """The answer if our own code fails."""
    return Problem("internal", "the service failed; its log has the details under the id of this request.")


def _shortened(detail: str) -> str:
    """The sentence with a limited length, encodable in UTF-8: it may repeat data of the client."""
    shown = detail if len(detail) <= MAX_DETAIL_CHARACTERS else f"{detail[:MAX_DETAIL_CHARACTERS]} … (shortened)."
    return shown.encode("utf-8", "backslashreplace").decode("utf-8")
