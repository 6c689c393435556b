"""API keys: who may ask. Health, metrics and documentation stay open, for probes and scrapers have no key."""

from __future__ import annotations

import hashlib
import hmac

from starlette.types import ASGIApp, Receive, Scope, Send

from service.problems import Problem, problem_response
from service.settings import Settings

OPEN_PATHS = frozenset({"/", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json", "/metrics"})
OPEN_PREFIXES = ("/health/", "/v2/health/", "/page/")


class KeysError(ValueError):
    """A file of keys that cannot be used; the message is one sentence."""


def read_keys(settings: Settings) -> list[str]:
    """SHA-256 of every key: those of `api_keys`, and of `api_keys_file`, where blank lines and # comments are skipped.

    Raises KeysError where either is given but has no key, or cannot be read, for then everyone would be let in.
    """
    keys = [key.strip() for key in settings.api_keys.get_secret_value().split(",") if key.strip()]
    if not keys and "api_keys" in settings.model_fields_set:
        raise KeysError("--api-keys (ERNIE_API_KEYS) has no API key; write them with commas between, or leave it out.")
    if (file := settings.api_keys_file) is not None:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise KeysError(f"the API keys in {file} cannot be read: {error}.") from error
        found = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        if not found:
            raise KeysError(f"{file} has no API key; write one a line, or leave --api-keys-file out.")
        keys += found
    return [hashlib.sha256(key.encode()).hexdigest() for key in dict.fromkeys(keys)]


class Access:
    """ASGI middleware that asks for `Authorization: Bearer <key>`; lets everything pass while there are no keys."""

    def __init__(self, app: ASGIApp, digests: list[str]) -> None:
        """`digests` are SHA-256 in hexadecimal; the list may change while the service runs."""
        self._app = app
        self._digests = digests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers `unauthorized` itself."""
        if scope["type"] != "http" or permits(self._digests, scope):
            await self._app(scope, receive, send)
            return
        scope["state"]["failure"] = "unauthorized"
        problem = Problem("unauthorized", "this service wants an API key: send Authorization: Bearer <key>.")
        response = problem_response(problem, scope, {"WWW-Authenticate": "Bearer"})
        await response(scope, receive, send)


def permits(digests: list[str], scope: Scope) -> bool:
    """Whether the request may be answered: there are no keys, it brings one of them, or its path is open to all."""
    return not digests or _is_open(scope["path"]) or _knows(digests, scope)


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(OPEN_PREFIXES)


def _knows(digests: list[str], scope: Scope) -> bool:
    sent = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    scheme, _, key = sent.partition(b" ")
    digest = hashlib.sha256(key.strip()).hexdigest()
    # Every key is compared, each in constant time: how long it takes tells nothing.
    matches = [hmac.compare_digest(digest, known) for known in digests]
    return scheme.lower() == b"bearer" and any(matches)
