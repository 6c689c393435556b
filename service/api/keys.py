"""API keys: which requests are authorised."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence

from service.problem import Problem

# Paths that need no key: probes and scrapers have none, and browsers send none for the page and the documentation.
OPEN_PATHS = frozenset({"/", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json", "/metrics"})
OPEN_PREFIXES = ("/health/", "/v2/health/", "/page/")


class Keys:
    """The valid API keys. Without any key, every request is authorised."""

    def __init__(self, digests: Sequence[str] = ()) -> None:
        """`digests` are SHA-256 of the keys, in hexadecimal."""
        self._digests = tuple(digests)

    def replace(self, digests: Sequence[str]) -> None:
        """From now on only these keys are valid."""
        self._digests = tuple(digests)

    def check(self, path: str, headers: Mapping[bytes, bytes]) -> None:
        """Raises Problem `unauthorized` unless the path is open or `Authorization: Bearer <key>` has a valid key."""
        if not self._digests or path in OPEN_PATHS or path.startswith(OPEN_PREFIXES):
            return
        scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
        digest = hashlib.sha256(key.strip()).hexdigest()
        # All keys are compared, each in constant time, so that the time reveals nothing about them.
        matches = [hmac.compare_digest(digest, valid) for valid in self._digests]
        if scheme.lower() != b"bearer" or not any(matches):
            raise Problem("unauthorized", "this service needs an API key: send Authorization: Bearer <key>.")
