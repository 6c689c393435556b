"""Decisions that need only the head of a request: HTTP version, host, API key, queue, size and encoding of the body."""

from __future__ import annotations

from service.api.keys import Keys
from service.api.models.catalog import Catalog
from service.api.request import Request
from service.problem import Problem

# As in ASGI. A server that speaks HTTP/2 or HTTP/3 passes them as "2" and "3"; "2.0" is a request in the form of 1.1.
VERSIONS = frozenset({"1.1", "1.0", "2", "3"})


class Gate:
    """Rejects requests before their bodies are read."""

    def __init__(self, keys: Keys, catalog: Catalog, max_body_bytes: int) -> None:
        self._keys = keys
        self._catalog = catalog
        self._max_body_bytes = max_body_bytes

    def check_head(self, request: Request) -> None:
        """Raises Problem `invalid_request`."""
        if request.version not in VERSIONS:
            raise Problem("invalid_request", f"HTTP/{request.version} is not supported; send the request as HTTP/1.1.")
        if b"host" not in request.first_header:
            if request.version == "1.1":
                raise Problem("invalid_request", "the header field Host is missing; send it once.")
        # The lengths are compared first because that is cheaper, and they are almost always equal.
        elif (
            len(request.headers) != len(request.first_header)
            and [name for name, _ in request.headers].count(b"host") > 1
        ):
            raise Problem("invalid_request", "the header field Host occurs more than once; send it once.")

    def check_key(self, request: Request) -> None:
        """Raises Problem `unauthorized`."""
        self._keys.check(request.path, request.first_header)

    def check(self, request: Request) -> None:
        """Raises Problem: `invalid_request`, `unauthorized`, `overloaded`, `too_large`, or `unsupported_encoding`."""
        self.check_head(request)
        self.check_key(request)
        # Checked before size and encoding, so that a rejection is cheap: it takes time from the running requests.
        if full := self._catalog.full(request.path):
            # If there are several models, only the body names one, and it is not read.
            request.model = full[0].name if len(full) == 1 else ""
            raise full[0].admission.overloaded()
        declared = request.first_header.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._max_body_bytes:
            raise too_large(self._max_body_bytes)
        encoding = request.first_header.get(b"content-encoding")
        if encoding and encoding.lower() != b"identity":
            sent = encoding.decode("latin-1")
            raise Problem("unsupported_encoding", f"the body is sent as {sent!r}; send it uncompressed.")


def _hosts(request: Request) -> int:
    return sum(name == b"host" for name, _ in request.headers)


def too_large(max_body_bytes: int) -> Problem:
    """The answer to a body that exceeds the limit."""
    return Problem("too_large", f"the body is larger than {max_body_bytes} bytes; send fewer or shorter texts.")
