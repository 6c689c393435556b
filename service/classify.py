"""POST /classify."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from service.answers import Answer, Classified, Filled, success
from service.engine.messages import Item, Output
from service.models import Models, ServedModel, Session, Timings
from service.problems import RESPONSES
from service.schemas import Asked, ClassifyRequest
from service.windows import Windows

router = APIRouter(responses=RESPONSES)


@router.post("/classify", responses=success(Answer[Classified]))
async def classify(body: ClassifyRequest, request: Request) -> Response:
    """Probabilities of the classes for every input, the likeliest first; `top_k` limits them.

    A text of several windows has the mean of their probabilities, each window counted by its tokens.
    """
    answer = await classify_body(request.app.state.models, body, request.scope["state"])
    return Response(answer, media_type="application/json")


async def classify_body(models: Models, asked: Asked, state: dict[str, Any]) -> bytes:
    """The answer's body; raises Problem. `state` is the request's, which is told the model and the timings."""
    model = models.for_task(asked.model, "classify")
    state["model"] = model.name
    state["timings"] = timings = Timings()
    return answer_body(model, await classified(model, asked, timings))


async def classified(model: ServedModel, asked: Asked, timings: Timings) -> list[Classified]:
    """`results` of the answer, one for every input; raises Problem."""

    async def work(session: Session) -> tuple[list[tuple[Windows, bool]], list[Output]]:
        encoded = [await session.encode(index, each) for index, each in enumerate(asked.inputs)]
        texts = [window for windows, _ in encoded for window in windows.encodings]
        return encoded, await session.infer([Item(text.input_ids, text.token_type_ids) for text in texts])

    encoded, outputs = await model.answered(asked, timings, work)
    labels = model.labels(len(outputs[0].scores))
    remaining = iter(outputs)
    results: list[Classified] = []
    for windows, truncated in encoded:
        lengths = [len(window.input_ids) for window in windows.encodings]
        scores = weighted_mean([next(remaining).scores for _ in lengths], lengths)
        ranked = sorted(zip(labels, scores, strict=True), key=lambda pair: -pair[1])
        results.append(
            {
                "labels": [{"label": label, "score": score} for label, score in ranked[: asked.top_k]],
                "tokens": sum(lengths),
                "windows": len(lengths),
                "truncated": truncated,
            }
        )
    return results


def weighted_mean(rows: list[list[float]], weights: list[int]) -> list[float]:
    """Mean of rows, each counted by its weight; a single row as it is."""
    if len(rows) == 1:
        return rows[0]
    total = sum(weights)
    return [
        sum(value * weight for value, weight in zip(column, weights, strict=True)) / total
        for column in zip(*rows, strict=True)
    ]


def answer_body(model: ServedModel, results: Sequence[Classified | Filled]) -> bytes:
    """The envelope of both endpoints' answers, as JSON."""
    tokens = sum(result["tokens"] for result in results)
    version = model.manifest.version
    return msgspec.json.encode(
        {"model": model.name, "version": version, "results": results, "usage": {"tokens": tokens}}
    )
