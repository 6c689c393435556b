"""Extractive question answering in the format of SQuAD 1.1: data, paragraphs, qas, answers, nested in one `.json`."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from training.datasets.examples import Answer, Question, has_visible
from training.datasets.text_file import parse_json, read_text

log = logging.getLogger(__name__)


def read_questions(path: Path, lenient: bool = False) -> list[Question]:
    """All questions of a file; `answer_start` counts characters of the context from 0.

    Every answer must occur in its context at its start. With `lenient`, which published data sets need, an answer at
    another place gets the nearest start, an answer that does not occur keeps its text without a start, and questions
    without text are left out; one warning counts these cases. Raises ValueError, which names file and question.
    """
    if path.suffix != ".json":
        raise ValueError(f"{path}: not a file of questions; give a .json file in the format of SQuAD 1.1.")
    value = parse_json(read_text(path), str(path))
    return checked(_questions(value, str(path)), str(path), lenient)


def checked(questions: Iterator[Question], name: str, lenient: bool) -> list[Question]:
    """The questions with checked answers, see `read_questions`; `name` names the source in messages."""
    changes: Counter[str] = Counter()
    seen: set[str] = set()
    kept = []
    for question in questions:
        where = f"{name}: question {question.id}"
        if question.id in seen:
            raise ValueError(f"{where} occurs twice; give every question its own id.")
        seen.add(question.id)
        if not has_visible(question.question):
            if not lenient:
                raise ValueError(f"{where} has no text; write one, or remove the question.")
            changes["questions without text left out"] += 1
            continue
        kept.append(_located(question, where, lenient, changes))
    if not kept:
        raise ValueError(f"{name} contains no question.")
    if changes:
        log.warning("%s: %s", name, "; ".join(f"{count} {change}" for change, count in changes.items()))
    return kept


def _located(question: Question, where: str, lenient: bool, changes: Counter[str]) -> Question:
    answers = []
    for text, start in question.answers:
        if start is None or start < 0 or not question.context.startswith(text, start):
            nearest = find_nearest(question.context, text, start or 0)
            if not lenient:
                found = f"it occurs at {nearest}" if nearest is not None else "it does not occur in it"
                raise ValueError(
                    f"{where}: the answer {text[:40]!r} is not at {start} of the context; {found}. "
                    "Correct answer_start, which counts characters from 0, or remove the answer."
                )
            changes["answers whose start was corrected" if nearest is not None else "answers not in the context"] += 1
            start = nearest
        answers.append(Answer(text, start))
    return Question(question.id, question.context, question.question, tuple(answers), question.where)


def find_nearest(context: str, text: str, start: int) -> int | None:
    """The position of `text` in `context` that is nearest to `start`; None if it does not occur."""
    places = []
    place = context.find(text)
    while place >= 0:
        places.append(place)
        place = context.find(text, place + 1)
    return min(places, key=lambda place: abs(place - start), default=None)


def _questions(value: Any, name: str) -> Iterator[Question]:
    """The questions of the file, unchecked. Raises ValueError for another format."""
    for article in _list(value, "data", name):
        for paragraph in _list(article, "paragraphs", f"{name}: an article"):
            context = _string(paragraph, "context", f"{name}: a paragraph")
            for entry in _list(paragraph, "qas", f"{name}: the paragraph {context[:20]!r}"):
                id = _string(entry, "id", f"{name}: a question on {context[:20]!r}")
                where = f"{name}: question {id}"
                question = entry.get("question")
                if not isinstance(question, str):
                    raise ValueError(f"{where} needs a string 'question'.")
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
        raise ValueError(f"{where} needs a list {key!r}; SQuAD 1.1 nests data, paragraphs, qas and answers.")
    return found


def _string(value: Any, key: str, where: str) -> str:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, str) or not found.strip():
        raise ValueError(f"{where} needs a string {key!r} that is not empty.")
    return found
