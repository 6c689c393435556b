"""Extractive question answering in the format of SQuAD 1.1: data, paragraphs, qas, answers, nested in one `.json`."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from training.datasets.examples import Answer, Question
from training.datasets.text_file import parse_json, read_text

log = logging.getLogger(__name__)


def read_questions(path: Path, lenient: bool = False) -> list[Question]:
    """All questions; `answer_start` counts characters of the context from 0.

    Every answer must stand in its context at its start. With `lenient`, as published sets need it, one that stands
    elsewhere gets the start nearest to its own, one that stands nowhere keeps its text and no start, and questions
    without text are left out; one warning counts them. Raises ValueError naming file and question.
    """
    if path.suffix != ".json":
        raise ValueError(f"{path}: not a file of questions; give .json in the format of SQuAD 1.1.")
    value = parse_json(read_text(path), str(path))
    return checked(_questions(value, str(path)), str(path), lenient)


def checked(questions: Iterator[Question], name: str, lenient: bool) -> list[Question]:
    """The questions with answers where they stand, as `read_questions` has them; `name` is the file in messages."""
    changes: Counter[str] = Counter()
    seen: set[str] = set()
    kept = []
    for question in questions:
        where = f"{name}: question {question.id}"
        if question.id in seen:
            raise ValueError(f"{where} stands there twice; give every question an id of its own.")
        seen.add(question.id)
        if not question.question.strip():
            if not lenient:
                raise ValueError(f"{where} has no text; write one, or take it out.")
            changes["left out, they have no text"] += 1
            continue
        kept.append(_located(question, where, lenient, changes))
    if not kept:
        raise ValueError(f"{name}: no question in it.")
    if changes:
        log.warning("%s: %s", name, "; ".join(f"{count} {change}" for change, count in changes.items()))
    return kept


def _located(question: Question, where: str, lenient: bool, changes: Counter[str]) -> Question:
    answers = []
    for text, start in question.answers:
        if start is None or start < 0 or not question.context.startswith(text, start):
            nearest = find_nearest(question.context, text, start or 0)
            if not lenient:
                cure = f"it stands at {nearest}" if nearest is not None else "it stands nowhere in it"
                raise ValueError(
                    f"{where}: the answer {text[:40]!r} is not at {start} of the context; {cure}. "
                    "Correct answer_start, which counts characters from 0, or take the answer out."
                )
            changes["answers moved to where they stand" if nearest is not None else "answers not in the context"] += 1
            start = nearest
        answers.append(Answer(text, start))
    return Question(question.id, question.context, question.question, tuple(answers), question.where)


def find_nearest(context: str, text: str, start: int) -> int | None:
    """The place of `text` in `context` that is nearest to `start`, None where there is none."""
    places = []
    place = context.find(text)
    while place >= 0:
        places.append(place)
        place = context.find(text, place + 1)
    return min(places, key=lambda place: abs(place - start), default=None)


def _questions(value: Any, name: str) -> Iterator[Question]:
    """The questions as the file has them; raises ValueError for another form."""
    for article in _list(value, "data", name):
        for paragraph in _list(article, "paragraphs", f"{name}: an article"):
            context = _string(paragraph, "context", f"{name}: a paragraph")
            for entry in _list(paragraph, "qas", f"{name}: the paragraph {context[:20]!r}"):
                id = _string(entry, "id", f"{name}: a question on {context[:20]!r}")
                where = f"{name}: question {id}"
                question = entry.get("question")
                if not isinstance(question, str):
                    raise ValueError(f"{where} has no string question.")
                answers = tuple(_answer(answer, where) for answer in _list(entry, "answers", where))
                if not answers:
                    raise ValueError(f"{where} has no answer; every question needs one, as in SQuAD 1.1.")
                yield Question(id, context, question, answers, name)


def _answer(value: Any, where: str) -> Answer:
    start = value.get("answer_start") if isinstance(value, dict) else None
    if type(start) is not int:
        raise ValueError(f"{where}: answer_start must be a whole number, but is {start!r:.40}.")
    return Answer(_string(value, "text", f"{where}: an answer"), start)


def _list(value: Any, key: str, where: str) -> Sequence[Any]:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, list):
        raise ValueError(f"{where} has no list {key!r}; SQuAD 1.1 nests data, paragraphs, qas and answers.")
    return found


def _string(value: Any, key: str, where: str) -> str:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, str) or not found.strip():
        raise ValueError(f"{where} has no text {key!r}; SQuAD 1.1 wants one there.")
    return found
