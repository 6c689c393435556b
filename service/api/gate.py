"""Decisions that need only the head of a request: API key, queue, size and encoding of the body."""

from __future__ import annotations

from service.api.keys import Keys
from service.api.models.catalog import Catalog
from service.api.request import Request
from service.problem import Problem


class Gate:
    """Rejects requests before their bodies are read."""

    def __init__(self, keys: Keys, catalog: Catalog, max_body_bytes: int) -> None:
        self._keys = keys
        self._catalog = catalog
        self._max_body_bytes = max_body_bytes

    def check_key(self, request: Request) -> None:
        """Raises Problem `unauthorized`."""
        self._keys.check(request.path, request.first_header)

    def check(self, request: Request) -> None:
        """Raises Problem: `unauthorized`, `overloaded`, `too_large`, or `unsupported_encoding`."""
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


def too_large(max_body_bytes: int) -> Problem:
    """The answer to a body that exceeds the limit."""
    return Problem("too_large", f"the body is larger than {max_body_bytes} bytes; send fewer or shorter texts.")
