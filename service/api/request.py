"""One HTTP request: what its head says, and what is recorded while it is answered."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping, Sequence

Header = tuple[bytes, bytes]
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")


class Timings:
    """Seconds of one request, for Server-Timing. They follow each other, so their sum never exceeds the total."""

    __slots__ = ("inference", "queue", "tokenize")

    def __init__(self) -> None:
        self.tokenize = 0.0
        self.queue = 0.0
        self.inference = 0.0


class Request:
    """One HTTP request. Its clock starts when its head has arrived."""

    __slots__ = (
        "failure", "first_header", "headers", "id", "left", "method", "model", "path", "seconds", "started", "timings",
    )  # fmt: skip

    def __init__(self, method: str, path: str, headers: Sequence[Header]) -> None:
        """`headers` have names in lower case."""
        self.started = time.perf_counter()
        self.method = method
        self.path = path
        self.headers = headers
        self.first_header: Mapping[bytes, bytes] = dict(reversed(headers))
        """By name; where a header comes several times, the first one counts."""
        sent = self.first_header.get(b"x-request-id")
        self.id = sent.decode("ascii") if sent and _REQUEST_ID.fullmatch(sent) else secrets.token_hex(16)
        """The caller's, if it is short and printable, else a new one."""
        self.model = ""
        """Name of the model that answers, once it is known."""
        self.timings: Timings | None = None
        self.failure: str | None = None
        """Code of the problem that is the answer."""
        self.left = False
        """Whether the client has closed the connection."""
        self.seconds = 0.0
        """From the head to the answer."""
