"""The short way of a plain request: its body is read, worked on and answered without the application.

FastAPI with its middleware costs several times as much as all the rest of a short request. Whatever is not plainly a
good request to one of the two endpoints goes to the application, which holds the same endpoints and says what is wrong.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from starlette.types import Scope

from service.access import permits
from service.models import Models
from service.problems import Problem, ended
from service.tracing import Journal, request_id
from service.wire import Answer, Header, problem_answer, written

Read = Callable[[bytes], Any]
"""What a body asks for, or None where that is not plain."""
Work = Callable[[Models, Any, dict[str, Any]], Awaitable[bytes]]
"""The body of the answer; `state` of the request is told the model and the timings. Raises Problem."""

# A longer body may have come in parts, and those are the application's to wait for.
MAX_BYTES = 1 << 16


class Direct:
    """Answers plain requests."""

    def __init__(
        self,
        models: Models,
        endpoints: Mapping[str, tuple[Read, Work]],
        digests: list[str],
        journal: Journal,
        max_bytes: int,
    ) -> None:
        """`endpoints` by the path of their POST; `digests` are those of Access, `max_bytes` is that of RequestBody."""
        self._models = models
        self._endpoints = endpoints
        self._digests = digests
        self._journal = journal
        self._max_bytes = min(max_bytes, MAX_BYTES)

    def takes(self, scope: Scope) -> bool:
        """Whether the request may be one of these, as far as its head tells."""
        if scope["path"] not in self._endpoints or scope["method"] != "POST":
            return False
        plain = False
        for name, value in scope["headers"]:
            if name == b"content-type":
                plain = value == b"application/json"
            elif name == b"origin" or name == b"content-encoding":
                return False
        return plain and permits(self._digests, scope)

    def read(self, scope: Scope, body: bytes) -> Any:
        """What a request with this body asks for; None where the application is to answer."""
        if len(body) > self._max_bytes:
            return None
        asked = self._endpoints[scope["path"]][0](body)
        if asked is not None:
            scope["state"].update(request_id=request_id(scope), started=time.perf_counter())
        return asked

    async def answer(self, scope: Scope, asked: Any) -> Answer:
        """The answer to what `read` has given."""
        try:
            return Answer(200, await self._endpoints[scope["path"]][1](self._models, asked, scope["state"]))
        except Problem as problem:
            return problem_answer(problem, scope)

    @staticmethod
    def cut_off(scope: Scope) -> Answer:
        """What is answered where the service ends before the work is done."""
        return problem_answer(ended(), scope)

    @staticmethod
    def written(answer: Answer, scope: Scope, keep_alive: bool, headers: Sequence[Header]) -> bytes:
        """The answer as bytes, `headers` first."""
        state = scope["state"]
        state["seconds"] = seconds = time.perf_counter() - state["started"]
        return written(answer, state, seconds, keep_alive, headers)

    def note(self, answer: Answer, scope: Scope) -> None:
        """Counts an answer that has been written, which may take as long as to write it."""
        self._journal.answered(scope, answer.status, scope["state"]["seconds"])
