"""CMRC 2018: questions about Chinese Wikipedia, answered by a span of the text; dev has three answers per question."""

from __future__ import annotations

from pathlib import Path

from training.datasets.examples import Question
from training.datasets.paddlenlp_downloads import load_questions
from training.datasets.squad import read_questions

FILES = ("cmrc2018_trial.json", "cmrc2018_dev.json")


def read(folder: Path) -> dict[str, list[Question]]:
    """trial and dev of `folder`, and train if `cmrc2018_train.json` exists.

    Reads leniently: some answers of dev do not occur in their context, because people rephrased them, and two questions
    of trial are empty.
    """
    files = {part: folder / f"cmrc2018_{part}.json" for part in ("train", "trial", "dev")}
    return {
        part: read_questions(file, lenient=True) for part, file in files.items() if part != "train" or file.exists()
    }


def download() -> dict[str, list[Question]]:
    """train, trial and dev from PaddleNLP."""
    return load_questions("cmrc2018", ("train", "trial", "dev"))
