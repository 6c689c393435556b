"""What the tasks share: the checks of media type and size of the answer, and the document of their results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from service.api.answers import Classified, Filled
from service.api.exchange import Answer
from service.api.models.served import ServedModel
from service.api.request import Request
from service.api.turn import Turn
from service.problem import Problem


def check_json(request: Request) -> None:
    """Raises Problem unless the first Content-Type header names JSON; its parameters, such as charset, are ignored."""
    sent = request.first_header.get(b"content-type", b"")
    if sent == b"application/json":
        return
    main, _, sub = sent.partition(b";")[0].strip().lower().partition(b"/")
    if main != b"application" or not (sub == b"json" or sub.endswith(b"+json")):
        raise Problem("invalid_input", "the body must be a JSON object, sent as application/json.")


def check_answer_bytes(most: int, limit: int, fewer: str) -> None:
    """Raises Problem if an answer could have more bytes than --max-answer-bytes. `fewer` is what a client can change.

    The check comes before the model runs, so it takes an upper limit of the size.
    """
    if most > limit:
        raise Problem(
            "too_large",
            f"the answer would have up to {most} bytes, more than the {limit} that --max-answer-bytes allows; "
            f"send {fewer}.",
        )


async def json_list(values: Sequence[Any], at_once: int = 1) -> msgspec.Raw:
    """A list in JSON, `at_once` values after the other; other requests run between."""
    parts, turn = [], Turn()
    for start in range(0, len(values), at_once):
        parts.append(msgspec.json.encode(values[start : start + at_once])[1:-1])
        await turn.pause()
    return msgspec.Raw(b"[%b]" % b",".join(parts))


async def results_answer(model: ServedModel, results: Sequence[Classified | Filled], **more: object) -> Answer:
    """The results with model, version and usage, and `more` fields, as JSON."""
    usage = {"tokens": sum(result["tokens"] for result in results)}
    listed = results if len(results) == 1 else await json_list(results)
    document = {"model": model.name, "version": model.manifest.version, "results": listed, "usage": usage, **more}
    return Answer(200, msgspec.json.encode(document))
