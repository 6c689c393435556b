"""Small corpora and settings for the tests of the batch maker, as hypothesis draws them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

import native
from tests.native import oracle

PAD, CLS, SEP, MASK, UNK = range(5)
VOCABULARY = 40
PIECES = range(30, VOCABULARY)
ORDINARY = np.arange(5, VOCABULARY, dtype=np.int32)
CONTINUATION = np.isin(np.arange(VOCABULARY), PIECES)


@dataclass
class SmallCorpus:
    """Arrays as in `IndexedCorpus`, and a seed."""

    tokens: np.ndarray
    boundaries: np.ndarray | None
    offsets: np.ndarray
    documents: np.ndarray
    seed: int

    def plain(self) -> oracle.Corpus:
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
