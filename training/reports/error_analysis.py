"""Error analysis: wrong predictions, worst first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.datasets.examples import Example, Question, TaggedSentence
from training.datasets.tag_schemes import Scheme
from training.tasks.metrics import answer_f1, entities, exact

Entity = tuple[int, int, str]
"""first token, last token + 1, type"""


@dataclass(frozen=True)
class Misclassified:
    """An example with a wrong predicted label."""

    example: Example
    predicted: str
    score: float
    """probability of the predicted label"""
    scores: Mapping[str, float]
    """probabilities of all labels, highest first"""


@dataclass(frozen=True)
class Mistagged:
    """A sentence with missed or wrongly found entities."""

    sentence: TaggedSentence
    right: set[Entity]
    missed: set[Entity]
    wrong: set[Entity]


@dataclass(frozen=True)
class Misanswered:
    """A question with a wrong answer."""

    question: Question
    answer: str
    start: int
    """first character of the answer in the context"""
    score: float | None
    """sum of two logits; None if the model gave no answer"""
    f1: float


def misclassified(examples: Sequence[Example], predictions: Sequence[Mapping[str, Any]]) -> list[Misclassified]:
    """Wrong predictions, most confident first."""
    found = []
    for example, given in zip(examples, predictions, strict=True):
        if given["label"] != example.label:
            scores = dict(sorted(given["scores"].items(), key=lambda pair: -pair[1]))
            found.append(Misclassified(example, given["label"], given["score"], scores))
    return sorted(found, key=lambda each: -each.score)


def mistagged(
    sentences: Sequence[TaggedSentence], predictions: Sequence[Mapping[str, Any]], scheme: Scheme
) -> list[Mistagged]:
    """Wrong predictions, those with the most missed or wrongly found entities first."""
    found = []
    for sentence, given in zip(sentences, predictions, strict=True):
        if given["tags"] != list(sentence.tags):
            gold, predicted = entities(sentence.tags, scheme), entities(given["tags"], scheme)
            found.append(Mistagged(sentence, gold & predicted, gold - predicted, predicted - gold))
    found = [each for each in found if each.missed or each.wrong]
    return sorted(found, key=lambda each: -len(each.missed) - len(each.wrong))


def misanswered(questions: Sequence[Question], predictions: Sequence[Mapping[str, Any]]) -> list[Misanswered]:
    """Wrong predictions, lowest F1 first, then highest score."""
    found = []
    for question, given in zip(questions, predictions, strict=True):
        answers = [answer.text for answer in question.answers]
        if not any(exact(answer, given["answer"]) for answer in answers):
            f1 = max(answer_f1(answer, given["answer"]) for answer in answers)
            found.append(Misanswered(question, given["answer"], given["start"], given["score"], f1))
    return sorted(found, key=lambda each: (each.f1, float("inf") if each.score is None else -each.score))


def excerpts(spans: Iterable[tuple[int, int]], length: int, margin: int) -> list[tuple[int, int]]:
    """Start and end of the parts of a text to show: each span with `margin` on both sides; touching parts are joined.

    Without a span, the beginning of the text.
    """
    found: list[tuple[int, int]] = []
    for start, stop in sorted(spans) or [(0, 0)]:
        begin, end = max(0, start - margin), min(length, stop + margin)
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found
