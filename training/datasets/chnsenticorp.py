"""ChnSentiCorp: reviews of hotels, books and computers, positive or negative; `train.tsv`, `dev.tsv`, `test.tsv`."""

from __future__ import annotations

from pathlib import Path

from training.datasets.examples import Example
from training.datasets.paddlenlp_downloads import load_parts
from training.datasets.table import read_examples

PARTS = ("train", "dev", "test")
FILES = tuple(f"{part}.tsv" for part in PARTS)
LABELS = {"0": "negative", "1": "positive"}


def read(folder: Path) -> dict[str, list[Example]]:
    """train, dev and test of `folder`."""
    return {part: read_examples(folder / file) for part, file in zip(PARTS, FILES, strict=True)}


def download() -> dict[str, list[Example]]:
    """The same parts from PaddleNLP, from that one of its two copies whose test part has labels."""
    # PaddleNLP returns the index of the label, which for 0 and 1 is the label itself.
    return {
        part: [Example(str(row["label"]), row["text"].strip()) for row in rows]
        for part, rows in load_parts("chnsenticorp_v2", PARTS).items()
    }
