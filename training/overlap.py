"""Contamination: evaluation texts that stand in training text, compared after normalisation."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from training.datasets.corpus import read_documents
from training.datasets.tsv import read_examples

_NOT_WORD = re.compile(r"\W+")


def fingerprint(text: str) -> str:
    """`text` without case, width, punctuation and space, so that trivial edits do not hide a copy."""
    return _NOT_WORD.sub("", unicodedata.normalize("NFKC", text).lower())


def fingerprints(texts: Iterable[str]) -> set[str]:
    """Fingerprints of texts; those with no letter or digit are left out."""
    return {mark for text in texts if (mark := fingerprint(text))}


def overlapping(training: Iterable[str], evaluation: Iterable[str]) -> list[int]:
    """Indexes of the evaluation texts that also stand in the training texts, whole text against whole text."""
    seen = fingerprints(training)
    return [index for index, text in enumerate(evaluation) if fingerprint(text) in seen]


def read_texts(path: Path) -> list[str]:
    """The texts of a labelled `.tsv` file, or the documents of a text file, each joined to one string."""
    if path.suffix == ".tsv":
        return [example.text for example in read_examples(path)]
    return ["".join(document) for document in read_documents(path)]
