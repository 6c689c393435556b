"""Small corpora, settings and batches for the tests of the batch maker."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

import native
from tests.native import oracle

PAD, CLS, SEP, MASK, UNK = range(5)
VOCABULARY = 40
PIECES = range(30, VOCABULARY)
ORDINARY = np.arange(5, VOCABULARY, dtype=np.int32)
CONTINUATION = np.isin(np.arange(VOCABULARY), PIECES)
SETTINGS = oracle.Settings(VOCABULARY, CLS, SEP, MASK, PAD, CONTINUATION.tolist(), ORDINARY.tolist(), max_seq_length=64)
Arrays = dict[str, np.ndarray]


@dataclass
class SmallCorpus:
    """The arrays of an `IndexedCorpus`, and a seed."""

    tokens: np.ndarray
    boundaries: np.ndarray | None
    offsets: np.ndarray
    documents: np.ndarray
    seed: int

    def for_oracle(self) -> oracle.Corpus:
        boundaries = None if self.boundaries is None else self.boundaries.tolist()
        return oracle.Corpus(self.tokens.tolist(), boundaries, self.offsets.tolist(), self.seed)

    def native(self) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, int]:
        return self.tokens, self.boundaries, self.offsets, self.seed


@st.composite
def small_corpora(draw: st.DrawFn) -> SmallCorpus:
    sentences = draw(st.lists(st.integers(0, 40), min_size=1, max_size=20))
    ends = draw(st.lists(st.integers(0, len(sentences)), max_size=6))
    documents = np.array([0, *sorted(ends), len(sentences)], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(sentences)]).astype(np.int64)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    tokens = rng.integers(5, VOCABULARY, offsets[-1]).astype(draw(st.sampled_from([np.uint16, np.int32])))
    boundaries = None
    if draw(st.booleans()):
        boundaries = rng.choice([0, 0, 1, 2, 2, 3, 4], len(tokens)).astype(np.uint8)
    return SmallCorpus(tokens, boundaries, offsets, documents, draw(st.integers(0, 2**64 - 1)))


@st.composite
def settings(draw: st.DrawFn) -> oracle.Settings:
    share = st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0])
    mask_share = draw(share)
    levels = st.sampled_from(
        [(0, 1, 0, 0), (1, 0, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (0.1, 0.4, 0.2, 0.3), (0.3, 0, 0.7, 0)]
    )
    return oracle.Settings(
        VOCABULARY,
        CLS,
        SEP,
        MASK,
        PAD,
        CONTINUATION.tolist(),
        ORDINARY.tolist(),
        levels=draw(st.lists(levels, min_size=1, max_size=3)),
        max_seq_length=draw(st.integers(5, 80)),
        masked_lm_prob=draw(st.sampled_from([0.0, 0.05, 0.15, 0.5, 1.0])),
        max_ngrams=draw(st.integers(1, 6)),
        sentence_order=draw(st.booleans()),
        mask_share=mask_share,
        random_share=min(draw(share), 1 - mask_share),
        replace_whole_units=draw(st.booleans()),
        pad_multiple=draw(st.sampled_from([1, 8, 100])),
        pack=draw(st.booleans()),
    )


def maker(corpora: list[SmallCorpus], s: oracle.Settings) -> native.BatchMaker:
    """The native batch maker with these settings."""
    arrays = {
        "continuation": np.array(s.continuation, dtype=bool),
        "ordinary_ids": np.array(s.ordinary_ids, dtype=np.int32),
        "levels": np.array(s.levels, dtype=np.float64),
    }
    return native.BatchMaker([corpus.native() for corpus in corpora], **{**vars(s), **arrays})


def build_map(corpus: SmallCorpus, s: oracle.Settings, short_seq_prob: float = 0.1, seed: int = 1) -> np.ndarray:
    """All samples of the corpus for these settings, int64 [n, 2]."""
    rows, _ = native.build_sample_map(
        corpus.offsets,
        corpus.documents,
        tokens=len(corpus.tokens),
        first=0,
        last=len(corpus.documents) - 1,
        window=s.max_seq_length - (3 if s.sentence_order else 2),
        short_seq_prob=short_seq_prob,
        pairs=s.sentence_order,
        seed=seed,
    )
    return rows


def unpacked(rows: np.ndarray) -> list[tuple[int, int, int, int]]:
    """(begin, length, target, pair) of every row."""
    return [(b, w & 0xFFFFFFFF, w >> 32 & 0xFFFF, w >> 48) for b, w in rows.tolist()]


def make(
    corpus: SmallCorpus, s: oracle.Settings, rows: np.ndarray, epochs: Any = 0, samples: Any = None, **more: Any
) -> Arrays:
    """A batch of these rows of one corpus."""
    n = len(rows)
    epochs = np.broadcast_to(np.int64(epochs), n).copy()
    samples = np.arange(n, dtype=np.int64) if samples is None else samples
    return maker([corpus], s).make(np.zeros(n, np.int32), rows, epochs, samples, **more)


def a_corpus(seed: int = 1, documents: int = 60) -> SmallCorpus:
    """Documents of two to nine sentences of 2 to 30 tokens, with boundary bytes, and `##` pieces inside units."""
    rng = np.random.default_rng(seed)
    sentences = rng.integers(2, 10, documents)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(2, 31, sentences.sum()))]).astype(np.int64)
    tokens = rng.integers(5, 30, offsets[-1]).astype(np.uint16)
    boundaries = rng.choice([0, 1, 2, 2, 3, 4], len(tokens)).astype(np.uint8)
    boundaries[offsets[:-1]] = 2
    pieces = (boundaries == 0) & (rng.random(len(tokens)) < 0.5)
    tokens[pieces] = rng.integers(30, VOCABULARY, pieces.sum())
    ends = np.concatenate([[0], np.cumsum(sentences)]).astype(np.int64)
    return SmallCorpus(tokens, boundaries, offsets, ends, seed)


def originals(batch: Arrays) -> np.ndarray:
    """input_ids before masking: the labels put back at the masked positions."""
    ids = batch["input_ids"].copy()
    ids.reshape(-1)[batch["mask_positions"]] = batch["labels"]
    return ids


def texts(batch: Arrays) -> list[list[list[int]]]:
    """For each row its texts, each a list of columns, without special tokens."""
    found = []
    for ids, length in zip(originals(batch), batch["lengths"], strict=True):
        ends = [column for column in range(length) if ids[column] == SEP]
        found.append([list(range(a + 1, b)) for a, b in itertools.pairwise([0, *ends])])
    return found
