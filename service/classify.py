"""POST /classify."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from service.models import ServedModel, Timings
from service.problems import RESPONSES
from service.schemas import ClassifyRequest

router = APIRouter(responses=RESPONSES)


@router.post("/classify")
async def classify(body: ClassifyRequest, request: Request) -> Response:
    """Probabilities of the classes for every input, the likeliest first; `top_k` limits them."""
    model = request.app.state.models.for_task(body.model, "classify")
    request.state.model = model.name
    request.state.timings = timings = Timings()
    return answer(model.name, model.manifest.version, await classified(model, body, timings))


async def classified(model: ServedModel, body: ClassifyRequest, timings: Timings) -> list[dict[str, Any]]:
    """`results` of the answer, one for every input; raises Problem."""
    encodings, outputs = await model.run(body, timings)
    labels = model.labels(len(outputs[0].scores))
    results: list[dict[str, Any]] = []
    for encoding, output in zip(encodings, outputs, strict=True):
        ranked = sorted(zip(labels, output.scores, strict=True), key=lambda pair: -pair[1])
        results.append(
            {
                "labels": [{"label": label, "score": score} for label, score in ranked[: body.top_k]],
                "tokens": len(encoding.input_ids),
                "truncated": encoding.truncated,
            }
        )
    return results


def answer(model: str, version: str, results: list[dict[str, Any]]) -> Response:
    """The envelope of both endpoints' answers."""
    tokens = sum(result["tokens"] for result in results)
    body = {"model": model, "version": version, "results": results, "usage": {"tokens": tokens}}
    return Response(msgspec.json.encode(body), media_type="application/json")
