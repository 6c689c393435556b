"""Data sets that PaddleNLP downloads, for machines with a network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from training.datasets.examples import Answer, Question
from training.datasets.squad import checked


def load_parts(name: str, parts: Sequence[str], config: str | None = None) -> dict[str, Any]:
    """PaddleNLP's parts of a set, which it keeps in `~/.paddlenlp`; raises RuntimeError when the download fails."""
    from paddlenlp.datasets import load_dataset  # several seconds, and only this needs it

    try:
        loaded = load_dataset(name, name=config, splits=list(parts))
    except (RuntimeError, OSError) as error:
        raise RuntimeError(f"PaddleNLP could not download {name}: {error}") from error
    return {part: loaded[part] for part in parts}


def load_questions(name: str, parts: Sequence[str]) -> dict[str, list[Question]]:
    """PaddleNLP's parts of a set of questions.

    Its reader cuts white space off contexts and answers and leaves the starts as they were, hence lenient.
    """
    loaded = load_parts(name, parts)
    return {
        part: checked(_questions(rows), f"PaddleNLP's {name}, {part}", lenient=True) for part, rows in loaded.items()
    }


def _questions(rows: Iterable[Mapping[str, Any]]) -> Iterator[Question]:
    for row in rows:
        answers = tuple(map(Answer, row["answers"], row["answer_starts"]))
        yield Question(row["id"], row["context"], row["question"], answers)
