"""Contamination: evaluation texts that stand in training text, compared after normalisation."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from native import ErnieTokenizer
from training.corpus.cleaning import clean
from training.corpus.indexed import IndexedCorpus
from training.datasets.corpus import read_documents
from training.datasets.tsv import read_examples
from training.settings import CorpusSettings

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


def overlapping_corpora(corpora: Iterable[IndexedCorpus], vocab: Path, evaluation: Sequence[str]) -> list[int]:
    """As `overlapping`, for corpora as `corpus build` makes them of the vocabulary `vocab`.

    Both sides are compared token by token, so what the vocabulary has no token for does not tell texts apart.
    """
    tokenizer = ErnieTokenizer.from_file(vocab)
    marks = [fingerprint(token.removeprefix("##")) for token in tokenizer.tokens]
    numbers = {mark: number for number, mark in enumerate(dict.fromkeys(marks))}
    number_of = np.array([numbers[mark] for mark in marks], dtype=np.int32)
    meant = number_of != numbers.get("", -1)
    # Cleaned as the corpus was, if it was built with the default settings.
    cleaned = (clean(text, CorpusSettings.max_repeat, CorpusSettings.plain_width) for text in evaluation)
    encoded = (np.array(tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int64) for text in cleaned)
    said = [number_of[ids[meant[ids]]].tobytes() for ids in encoded]
    sought = set(said) - {b""}
    seen = {mark for corpus in corpora for mark in _documents(corpus, number_of, meant) if mark in sought}
    return [index for index, mark in enumerate(said) if mark in seen]


def _documents(corpus: IndexedCorpus, number_of: np.ndarray, meant: np.ndarray) -> Iterator[bytes]:
    """A digest-like string of each document: the numbers of its tokens, without those that are punctuation."""
    bounds = corpus.offsets[corpus.documents]
    for start, stop in itertools.pairwise(bounds):
        ids = corpus.tokens[start:stop]
        yield number_of[ids[meant[ids]]].tobytes()
