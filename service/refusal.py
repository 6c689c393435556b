"""Refusals while there is no place: made as soon as a request's head is there, without the application.

What is refused takes from what is served: the less a refusal costs, the more is answered while too much comes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from starlette.types import Scope

from service.access import permits
from service.problems import Problem
from service.tracing import Journal, request_id
from service.wire import Header, problem_answer, written

Reason = Callable[[str], tuple[Problem, str] | None]
"""Why nothing at a path can be answered now, if that is so, and the model it was for, as far as the path tells."""


class Refusal:
    """Makes the answer 429 that the application would give, as bytes."""

    def __init__(self, reason: Reason, digests: list[str], journal: Journal) -> None:
        """`digests` are those of Access."""
        self._reason = reason
        self._digests = digests
        self._journal = journal

    def __call__(self, scope: Scope, keep_alive: bool, headers: Sequence[Header]) -> bytes | None:
        """The answer to the request of `scope`, `headers` first; None where the application is to give one.

        So it is for all that has a place, and for what has another answer or other headers in it: requests without the
        key that they need, and those of browsers, which say where they come from.
        """
        if scope["method"] != "POST" or (refused := self._reason(scope["path"])) is None:
            return None
        if not permits(self._digests, scope) or any(name == b"origin" for name, _ in scope["headers"]):
            return None
        started = time.perf_counter()
        problem, model = refused
        state = scope["state"]
        state.update(request_id=request_id(scope), model=model)
        answer = problem_answer(problem, scope)
        seconds = time.perf_counter() - started
        self._journal.answered(scope, problem.status, seconds)
        return written(answer, state, seconds, keep_alive, headers)
