"""What the tasks share: the check of the media type before a body is decoded, and the document of their results."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from service.api.answers import Classified, Filled
from service.api.exchange import Answer
from service.api.models.served import ServedModel
from service.api.request import Request
from service.problem import Problem


def check_json(request: Request) -> None:
    """Raises Problem unless the first Content-Type header names JSON; its parameters, such as charset, are ignored."""
    sent = request.first_header.get(b"content-type", b"")
    if sent == b"application/json":
        return
    main, _, sub = sent.partition(b";")[0].strip().lower().partition(b"/")
    if main != b"application" or not (sub == b"json" or sub.endswith(b"+json")):
        raise Problem("invalid_input", "the body must be a JSON object, sent as application/json.")


def results_answer(model: ServedModel, results: Sequence[Classified | Filled]) -> Answer:
    """The results with model, version and usage, as JSON."""
    tokens = sum(result["tokens"] for result in results)
    version = model.manifest.version
    document = {"model": model.name, "version": version, "results": results, "usage": {"tokens": tokens}}
    return Answer(200, msgspec.json.encode(document))
