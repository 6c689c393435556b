"""Downloads data sets with PaddleNLP; needs a network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from training.datasets.examples import Answer, Question
from training.datasets.squad import checked


def load_parts(name: str, parts: Sequence[str], config: str | None = None) -> dict[str, Any]:
    """The parts of a data set from PaddleNLP, which caches them in `~/.paddlenlp`. Raises RuntimeError on failure."""
    from paddlenlp.datasets import load_dataset  # takes several seconds

    try:
        loaded = load_dataset(name, name=config, splits=list(parts))
    except (RuntimeError, OSError) as error:
        raise RuntimeError(f"PaddleNLP could not download {name}: {error}") from error
    return {part: loaded[part] for part in parts}


def load_questions(name: str, parts: Sequence[str]) -> dict[str, list[Question]]:
    """The parts of a question-answering data set from PaddleNLP.

    Reads leniently, because PaddleNLP strips contexts and answers and does not correct the start positions.
    """
    loaded = load_parts(name, parts)
    return {
        part: checked(_questions(rows), f"PaddleNLP's {name}, {part}", lenient=True) for part, rows in loaded.items()
    }


def _questions(rows: Iterable[Mapping[str, Any]]) -> Iterator[Question]:
    for row in rows:
        answers = tuple(map(Answer, row["answers"], row["answer_starts"]))
        yield Question(row["id"], row["context"], row["question"], answers)
