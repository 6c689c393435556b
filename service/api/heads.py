"""What is wrong with the head of a request, and how an offer to change the protocol is ignored."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import httptools

from service.api.request import Header
from service.problem import Problem, internal

log = logging.getLogger(__name__)

# Fields that offer another protocol, and the options of `Connection` that name them (RFC 9110, section 7.8; RFC 7540).
_OFFERS = (b"upgrade", b"http2-settings")


def head_too_large(max_bytes: int, max_fields: int) -> Problem:
    """The answer to a request that exceeds the limits for its head and its trailers together."""
    limits = f"{max_bytes} bytes or {max_fields} fields"
    return Problem("head_too_large", f"the head and the trailers of the request exceed {limits}; send fewer.")


def check_size(target: bytes, fields: Sequence[Header], max_bytes: int, max_fields: int) -> None:
    """Raises Problem `head_too_large` if a head, or a head with its trailers, exceeds a limit."""
    size = len(target) + sum(len(name) + len(value) for name, value in fields)
    if size > max_bytes or len(fields) > max_fields:
        raise head_too_large(max_bytes, max_fields)


def head_too_slow(seconds: float) -> Problem:
    """The answer if the complete head has not arrived within its time limit."""
    return Problem("head_timeout", f"the head had not arrived after {seconds:g} s; send it faster.")


def check_target(target: bytes) -> None:
    """Raises Problem `invalid_request` if the target of a request has no path."""
    if not target.isascii():
        raise Problem("invalid_request", "the target of the request is not ASCII; encode it with percent signs.")
    if not target.startswith(b"/") and not httptools.parse_url(target).path:
        raise Problem("invalid_request", "the target of the request has no path; send for example /classify.")


def parser_problem(error: httptools.HttpParserError) -> Problem:
    """The answer to an error of the parser. It is the client's error unless the code of a callback has failed."""
    cause = error.__context__
    if isinstance(cause, Problem):
        return cause
    if cause is None or isinstance(cause, httptools.HttpParserError):
        return Problem("invalid_request", f"the request is not valid HTTP/1.1 ({cause or error}); correct it.")
    log.error("a callback of the parser failed", exc_info=cause)
    return internal()


def without_offer(method: bytes, target: bytes, version: str, headers: Sequence[Header]) -> bytes:
    """The head of a request without the offer of another protocol (`Upgrade`). `headers` have names in lower case."""
    lines = [b"%s %s HTTP/%s" % (method, target, version.encode("ascii"))]
    for name, value in headers:
        if name == b"connection":
            options = [option.strip() for option in value.split(b",")]
            value = b", ".join(option for option in options if option.lower() not in _OFFERS)
            if not value:
                continue
        if name not in _OFFERS:
            lines.append(b"%s: %s" % (name, value))
    return b"\r\n".join([*lines, b"", b""])
