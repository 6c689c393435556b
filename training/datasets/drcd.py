"""DRCD: questions on Chinese Wikipedia in Traditional characters, and its conversion to Simplified ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from training.datasets.examples import Answer, Question
from training.datasets.paddlenlp_downloads import load_questions
from training.datasets.squad import read_questions

FILES = ("DRCD_dev.json", "DRCD_test.json")


def read(folder: Path) -> dict[str, list[Question]]:
    """dev and test of `folder`, and train if `DRCD_training.json` exists."""
    files = {"train": "DRCD_training.json", "dev": "DRCD_dev.json", "test": "DRCD_test.json"}
    return {
        part: read_questions(folder / file, lenient=part == "train")
        for part, file in files.items()
        if part != "train" or (folder / file).exists()
    }


def download() -> dict[str, list[Question]]:
    """train, dev and test from PaddleNLP, in Traditional characters."""
    return load_questions("drcd", ("train", "dev", "test"))


def simplified(questions: Sequence[Question]) -> list[Question]:
    """The questions in Simplified characters, by OpenCC's `t2s`; answers keep their start positions.

    Raises ValueError if OpenCC is not installed, or if the conversion changes the length of a context.
    """
    try:
        from opencc import OpenCC
    except ImportError:
        raise ValueError(
            "converting Traditional to Simplified needs OpenCC; install it with pip install 'ernie-zh[opencc]'."
        ) from None
    convert = OpenCC("t2s").convert
    contexts = {question.context: convert(question.context) for question in questions}
    if changed := next((before for before, after in contexts.items() if len(before) != len(after)), None):
        raise ValueError(
            f"OpenCC changes the length of the context {changed[:20]!r}…, so the starts of its answers would be wrong; "
            "remove this context."
        )
    return [_simplified(question, contexts[question.context], convert(question.question)) for question in questions]


def _simplified(question: Question, context: str, text: str) -> Question:
    """Cuts the answers out of the converted context: a word that is converted alone may become another word."""
    answers = tuple(
        Answer(context[start : start + len(old)], start) for old, start in question.answers if start is not None
    )
    return Question(question.id, context, text, answers, question.where)
