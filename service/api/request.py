"""One HTTP request: its head, and the record of its processing."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping, Sequence

Header = tuple[bytes, bytes]
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")


class Timings:
    """Seconds of the stages of a request, for Server-Timing. They do not overlap: their sum never exceeds the total."""

    __slots__ = ("inference", "queue", "tokenize")

    def __init__(self) -> None:
        self.tokenize = 0.0
        self.queue = 0.0
        self.inference = 0.0


class Request:
    """One HTTP request. Its clock starts when its head has arrived."""

    __slots__ = (
        "failure", "first_header", "headers", "id", "left", "method", "model", "path", "seconds", "started", "timings",
        "version",
    )  # fmt: skip

    def __init__(self, method: str, path: str, headers: Sequence[Header], version: str = "1.1") -> None:
        """`headers` have names in lower case; `version` is that of HTTP. A head that is not valid has no path."""
        self.started = time.perf_counter()
        self.method = method
        self.path = path
        self.headers = headers
        self.version = version
        self.first_header: Mapping[bytes, bytes] = dict(reversed(headers))
        """Headers by name. If a header occurs several times, the first one counts."""
        sent = self.first_header.get(b"x-request-id")
        self.id = sent.decode("ascii") if sent and _REQUEST_ID.fullmatch(sent) else secrets.token_hex(16)
        """The X-Request-ID of the request, if it is short and printable, otherwise a new id."""
        self.model = ""
        """Name of the model that answers; empty until it is known."""
        self.timings: Timings | None = None
        self.failure: str | None = None
        """Code of the problem, if the answer is one."""
        self.left = False
        """Whether the client has closed the connection."""
        self.seconds = 0.0
        """Time from the head to the answer."""
