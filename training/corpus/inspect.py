"""A readable description of a corpus: counts, lengths, and sentences with marked units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from native import ErnieTokenizer
from training.corpus.indexed import CHARACTER, ENTITY, INSIDE, PHRASE, WORD, IndexedCorpus
from training.corpus.writer import LEVELS

MARKS = {CHARACTER: ("", ""), WORD: ("[", "]"), PHRASE: ("{", "}"), ENTITY: ("<", ">")}


def inspect_corpus(prefix: Path, vocab: Path | None = None, samples: int = 5) -> Iterator[str]:
    """Lines about a corpus: counts, lengths of sentences and documents, and `samples` evenly spaced sentences.

    With a vocabulary the sentences are text, otherwise token ids. Units are marked as [word], {phrase} and <entity>;
    units of one character are not marked.
    """
    corpus = IndexedCorpus.open(prefix)
    sizes = np.diff(corpus.offsets)
    yield f"{prefix}: {len(corpus.documents) - 1:,} documents, {len(sizes):,} sentences, {len(corpus.tokens):,} tokens"
    yield f"tokens are {corpus.tokens.dtype}"
    yield f"tokens of a sentence: {_lengths(sizes)}"
    yield f"tokens of a document: {_lengths(np.diff(corpus.offsets[corpus.documents]))}"
    if corpus.boundaries is not None:
        counts = np.bincount(corpus.boundaries, minlength=len(LEVELS))
        yield "units: " + ", ".join(f"{counts[level]:,} {LEVELS[level]}" for level in MARKS)
    else:
        yield "no .seg file: the corpus has no boundaries"
    tokens = ErnieTokenizer.from_file(vocab).tokens if vocab else None
    for index in np.linspace(0, len(sizes) - 1, min(samples, len(sizes)), dtype=np.int64):
        yield f"sentence {index:,}: {_marked(corpus, int(index), tokens)}"


def _lengths(sizes: np.ndarray) -> str:
    if not len(sizes):
        return "none"
    median, high = np.percentile(sizes, [50, 99])
    return f"mean {sizes.mean():.1f}, median {median:.0f}, 99 % up to {high:.0f}, longest {sizes.max():,}"


def _marked(corpus: IndexedCorpus, index: int, vocabulary: Sequence[str] | None) -> str:
    ids = corpus.sentence(index)
    if vocabulary is None:
        texts = [f"{token} " for token in ids]
    else:
        texts = [vocabulary[token].removeprefix("##") if token < len(vocabulary) else f"?{token}?" for token in ids]
    if corpus.boundaries is None:
        return "".join(texts)
    levels = corpus.boundaries[corpus.offsets[index] : corpus.offsets[index + 1]]
    heads = np.flatnonzero(levels != INSIDE)
    units = zip(heads, [*heads[1:], len(ids)], strict=True)
    marked = []
    for start, stop in units:
        opening, closing = MARKS.get(int(levels[start]), ("?", "?"))
        marked.append(opening + "".join(texts[start:stop]).strip() + closing)
    return (" " if vocabulary is None else "").join(marked)
