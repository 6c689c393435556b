"""POST /classify."""

from __future__ import annotations

from service.api.answers import Classified
from service.api.exchange import Answer, Work
from service.api.models.catalog import Catalog
from service.api.models.served import ServedModel, Session
from service.api.models.windows import Windows
from service.api.request import Timings
from service.api.request_bodies import ClassifyRequest, Decoder
from service.api.tasks.results import check_answer_bytes, check_json, results_answer
from service.api.turn import Turn
from service.messages.inference import Item, Output

DEFAULT_TOP_K = 100
"""Number of labels of each text if the request has no top_k: an answer with thousands is megabytes for a few texts."""
RESULT_BYTES = 80
"""Bytes of a result in JSON without its labels."""


class Classify:
    """The endpoint."""

    path = "/classify"
    decoder = Decoder(ClassifyRequest)

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def answer(self, request: Work, body: bytes) -> Answer:
        """Raises Problem."""
        check_json(request)
        asked = self.decoder.decode(body)
        model = self._catalog.for_task(asked.model, "classify")
        request.model, request.timings = model.name, (timings := Timings())
        results = await classified(model, asked, timings)
        if asked.top_k is None and (count := model.label_count) > DEFAULT_TOP_K:
            return await results_answer(model, results, label_count=count)
        return await results_answer(model, results)


async def classified(model: ServedModel, asked: ClassifyRequest, timings: Timings) -> list[Classified]:
    """The results, one for every input; raises Problem.

    The probabilities of a text with several windows are the mean over its windows, weighted by their tokens.
    """

    top_k = asked.top_k or DEFAULT_TOP_K

    async def work(session: Session) -> tuple[list[tuple[Windows, bool]], list[Output]]:
        most = len(asked.texts) * (RESULT_BYTES + model.label_bytes(top_k))
        check_answer_bytes(most, session.settings.max_answer_bytes, "fewer texts, or a smaller top_k")
        encoded = [await session.encode(index, each) for index, each in enumerate(asked.texts)]
        texts = [window for windows, _ in encoded for window in windows.encodings]
        return encoded, await session.infer([Item(text.input_ids, text.token_type_ids) for text in texts])

    encoded, outputs = await model.answered(asked, timings, work)
    labels = model.labels(len(outputs[0].scores))
    remaining = iter(outputs)
    results: list[Classified] = []
    turn = Turn()
    for windows, truncated in encoded:
        lengths = [len(window.input_ids) for window in windows.encodings]
        scores = weighted_mean([next(remaining).scores for _ in lengths], lengths)
        ranked = best(labels, scores, top_k)
        results.append(
            {
                "labels": [{"label": label, "score": score} for label, score in ranked],
                "tokens": sum(lengths),
                "windows": len(lengths),
                "truncated": truncated,
                "unknown": windows.whole.unknown,
            }
        )
        await turn.pause()
    return results


def best(labels: list[str], scores: list[float], top_k: int) -> list[tuple[str, float]]:
    """The labels with the highest scores, highest first; equal scores in the order of the labels."""
    order = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)
    return [(labels[index], scores[index]) for index in order[:top_k]]


def weighted_mean(rows: list[list[float]], weights: list[int]) -> list[float]:
    """Weighted mean of the rows; a single row is returned unchanged."""
    if len(rows) == 1:
        return rows[0]
    total = sum(weights)
    return [
        sum(value * weight for value, weight in zip(column, weights, strict=True)) / total
        for column in zip(*rows, strict=True)
    ]
