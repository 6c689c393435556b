"""POST /classify."""

from __future__ import annotations

from model_build.bundle import Scores
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
from service.problem import Problem

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

    `of_windows` combines the scores of a text with several windows.
    """

    top_k = asked.top_k or DEFAULT_TOP_K

    async def work(session: Session) -> tuple[list[tuple[Windows, bool]], list[Output]]:
        _check_scores(model, asked)
        most = len(asked.texts) * (RESULT_BYTES + model.label_bytes(top_k))
        check_answer_bytes(most, session.settings.max_answer_bytes, "fewer texts, or a smaller top_k")
        encoded = [await session.encode(index, each) for index, each in enumerate(asked.texts)]
        texts = [window for windows, _ in encoded for window in windows.encodings]
        return encoded, await session.infer(
            [Item(text.input_ids, text.token_type_ids, raw=asked.raw_scores) for text in texts]
        )

    encoded, outputs = await model.answered(asked, timings, work)
    labels = model.labels(len(outputs[0].scores))
    remaining = iter(outputs)
    results: list[Classified] = []
    turn = Turn()
    for windows, truncated in encoded:
        lengths = [len(window.input_ids) for window in windows.encodings]
        scores = of_windows([next(remaining).scores for _ in lengths], lengths, model.scores)
        ranked = best(labels, scores, top_k)
        if asked.threshold is not None:
            ranked = [pair for pair in ranked if pair[1] >= asked.threshold]
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


def _check_scores(model: ServedModel, asked: ClassifyRequest) -> None:
    """Raises Problem if the model has no logits, or if no probability can reach the threshold."""
    ready = model.engine.ready
    if asked.raw_scores and ready and ready.scores_in_graph:
        raise Problem(
            "invalid_input",
            f"raw_scores must be false, because the graph of {model.name} ends in a {ready.scores}: it has no logits.",
        )
    probabilities = model.scores != "raw" and not asked.raw_scores
    if asked.threshold is not None and probabilities and not 0 <= asked.threshold <= 1:
        raise Problem("invalid_input", f"threshold must be between 0 and 1, because the scores of {model.name} are.")


def of_windows(rows: list[list[float]], lengths: list[int], scores: Scores) -> list[float]:
    """The scores of a text from those of its windows, which have `lengths` tokens; one window is returned unchanged.

    With sigmoid, a label applies to a text if it applies to a part of it, so the largest score of each label counts.
    Otherwise the scores are the mean over the windows, weighted by their tokens.
    """
    if len(rows) == 1:
        return rows[0]
    if scores == "sigmoid":
        return [max(column) for column in zip(*rows, strict=True)]
    total = sum(lengths)
    return [
        sum(value * weight for value, weight in zip(column, lengths, strict=True)) / total
        for column in zip(*rows, strict=True)
    ]
