"""POST /admin/reload, which exists only with --admin."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from service.api.answers import Reload
from service.api.exchange import Answer, Work
from service.api.parent_link import ParentLink
from service.problem import Problem


class ReloadModels:
    """The endpoint. Its body, if there is one, is ignored."""

    path = "/admin/reload"

    def __init__(self, parent: Callable[[], ParentLink | None]) -> None:
        """`parent` returns the link to the parent process, or None before the parent is connected."""
        self._parent = parent

    async def answer(self, request: Work, body: bytes) -> Answer:
        """Answers when all changes are done. No request fails because of a reload."""
        if (parent := self._parent()) is None:
            raise Problem("not_ready", "the service is starting; try again soon.")
        done = msgspec.to_builtins(await parent.reload())
        return Answer(200, msgspec.json.encode({name: done[name] for name in Reload.__annotations__}))
