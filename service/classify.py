"""POST /classify."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from fastapi import APIRouter, Request, Response

from service.answers import Answer, Classified, Filled, success
from service.engine.messages import Item, Output
from service.models import ServedModel, Session, Timings
from service.problems import RESPONSES
from service.schemas import ClassifyRequest
from service.windows import Windows

router = APIRouter(responses=RESPONSES)


@router.post("/classify", responses=success(Answer[Classified]))
async def classify(body: ClassifyRequest, request: Request) -> Response:
    """Probabilities of the classes for every input, the likeliest first; `top_k` limits them.

    A text of several windows has the mean of their probabilities, each window counted by its tokens.
    """
    model = request.app.state.models.for_task(body.model, "classify")
    request.state.model = model.name
    request.state.timings = timings = Timings()
    return answer(model.name, model.manifest.version, await classified(model, body, timings))


async def classified(model: ServedModel, body: ClassifyRequest, timings: Timings) -> list[Classified]:
    """`results` of the answer, one for every input; raises Problem."""

    async def work(session: Session) -> tuple[list[tuple[Windows, bool]], list[Output]]:
        encoded = [await session.encode(index, each) for index, each in enumerate(body.inputs)]
        texts = [window for windows, _ in encoded for window in windows.encodings]
        return encoded, await session.infer([Item(text.input_ids, text.token_type_ids) for text in texts])

    encoded, outputs = await model.answered(body, timings, work)
    labels = model.labels(len(outputs[0].scores))
    remaining = iter(outputs)
    results: list[Classified] = []
    for windows, truncated in encoded:
        lengths = [len(window.input_ids) for window in windows.encodings]
        scores = weighted_mean([next(remaining).scores for _ in lengths], lengths)
        ranked = sorted(zip(labels, scores, strict=True), key=lambda pair: -pair[1])
        results.append(
            {
                "labels": [{"label": label, "score": score} for label, score in ranked[: body.top_k]],
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


def answer(model: str, version: str, results: Sequence[Classified | Filled]) -> Response:
    """The envelope of both endpoints' answers."""
    tokens = sum(result["tokens"] for result in results)
    body = {"model": model, "version": version, "results": results, "usage": {"tokens": tokens}}
    return Response(msgspec.json.encode(body), media_type="application/json")


ENDPOINT = {"/classify": (ClassifyRequest, classify)}
