"""MSRA NER: people, places and organisations in news; a share of train becomes the dev part, which the set lacks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from training.datasets.examples import TaggedSentence
from training.datasets.fingerprints import share_of
from training.datasets.paddlenlp_downloads import load_parts
from training.datasets.tagged import read_tagged, warn_of_faults

FILES = ("msra_train.txt", "msra_test.txt")
DEV_SHARE = 0.05


def read(folder: Path) -> dict[str, list[TaggedSentence]]:
    """train, dev and test of `folder`, tagged in BMES."""
    train, test = (read_tagged(folder / file) for file in FILES)
    return with_dev(train, test)


def download() -> dict[str, list[TaggedSentence]]:
    """train, dev and test from PaddleNLP, whose copy is tagged in BIO."""
    parts = {}
    for part, rows in load_parts("msra_ner", ("train", "test")).items():
        # PaddleNLP returns the index of each tag in its list of tags.
        parts[part] = [
            TaggedSentence(tuple(row["tokens"]), tuple(rows.label_list[tag] for tag in row["labels"]), f"line {number}")
            for number, row in enumerate(rows, start=1)
        ]
        warn_of_faults(parts[part], f"PaddleNLP's msra_ner, {part}")
    return with_dev(parts["train"], parts["test"])


def with_dev(train: Sequence[TaggedSentence], test: list[TaggedSentence]) -> dict[str, list[TaggedSentence]]:
    """Moves one sentence in twenty from train to dev; the text decides, so copies stay in the same part."""
    parts: dict[str, list[TaggedSentence]] = {"train": [], "dev": [], "test": test}
    for sentence in train:
        parts["dev" if share_of("".join(sentence.tokens)) < DEV_SHARE else "train"].append(sentence)
    return parts
