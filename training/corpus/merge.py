"""Merges several corpora into one, in the given order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.corpus.indexed import CorpusError, IndexedCorpus
from training.corpus.verify import read_description
from training.corpus.writer import CorpusWriter

SENTENCES = 1 << 16


def merge_corpora(prefixes: Sequence[Path], output: Path) -> dict[str, Any]:
    """Writes the corpus `output` of all documents of `prefixes` and returns its description.

    Duplicate documents are kept. Raises CorpusError if their vocabularies or dtypes differ, or if only some have
    boundary bytes.
    """
    corpora = [IndexedCorpus.open(prefix) for prefix in prefixes]
    descriptions = [read_description(prefix) for prefix in prefixes]
    vocabularies = [description.get("vocabulary") for description in descriptions]
    for prefix, corpus, vocabulary in zip(prefixes, corpora, vocabularies, strict=True):
        if vocabulary != vocabularies[0]:
            raise CorpusError(f"{prefix} and {prefixes[0]} have different vocabularies; build them with the same one.")
        if corpus.tokens.dtype != corpora[0].tokens.dtype:
            raise CorpusError(
                f"{prefix} holds {corpus.tokens.dtype} and {prefixes[0]} {corpora[0].tokens.dtype}; build both alike."
            )
        if (corpus.boundaries is None) != (corpora[0].boundaries is None):
            raise CorpusError(
                f"of {prefix} and {prefixes[0]} only one has a .seg file; build or convert both with boundaries."
            )
    about: dict[str, Any] = {"format": "ernie-zh corpus 1"}
    if vocabularies[0]:
        about["vocabulary"] = vocabularies[0]
    about["merged"] = [
        {"prefix": str(prefix), **{key: value for key, value in description.items() if key != "vocabulary"}}
        for prefix, description in zip(prefixes, descriptions, strict=True)
    ]
    with CorpusWriter(output, corpora[0].tokens.dtype, boundaries=corpora[0].boundaries is not None) as writer:
        for corpus in corpora:
            copy_corpus(corpus, writer)
        return writer.finish(about)


def copy_corpus(corpus: IndexedCorpus, writer: CorpusWriter) -> None:
    """Adds all sentences of a corpus in blocks; documents without a sentence are left out."""
    begins = np.zeros(len(corpus.offsets), dtype=bool)
    begins[corpus.documents[:-1]] = True
    for start in range(0, len(corpus.offsets) - 1, SENTENCES):
        stop = min(start + SENTENCES, len(corpus.offsets) - 1)
        span = slice(corpus.offsets[start], corpus.offsets[stop])
        boundaries = corpus.boundaries[span] if corpus.boundaries is not None else None
        sizes = np.diff(corpus.offsets[start : stop + 1]).astype(np.int32)
        writer.add(corpus.tokens[span], boundaries, sizes, begins[start:stop])
