"""CMRC 2018 without its training file: trained on DRCD in Simplified characters and on CMRC's trial part."""

from __future__ import annotations

from pathlib import Path

from training.datasets import cmrc2018, drcd
from training.datasets.examples import Question
from training.datasets.fingerprints import share_of

FILES = (*(f"drcd/{file}" for file in drcd.FILES), *(f"cmrc2018/{file}" for file in cmrc2018.FILES))
DEV_SHARE = 0.2


def read(folder: Path) -> dict[str, list[Question]]:
    """train: DRCD and most of trial; dev: the questions of one trial context in five; test: CMRC's dev part.

    So the questions of the reported metrics do not select the epoch. The text of each context decides its part.
    """
    questions = cmrc2018.read(folder / "cmrc2018")
    parts: dict[str, list[Question]] = {"train": [], "dev": [], "test": questions["dev"]}
    for learned in drcd.read(folder / "drcd").values():
        parts["train"] += drcd.simplified(learned)
    for question in questions["trial"]:
        parts["dev" if share_of(question.context) < DEV_SHARE else "train"].append(question)
    return parts
