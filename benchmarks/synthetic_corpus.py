"""A corpus made up in memory, shaped like Chinese text: for benchmarks of what comes after the tokenizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from training.corpus.indexed import IndexedCorpus

SPECIALS = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"]
CHARACTERS = [chr(0x4E00 + i) for i in range(16_000)]
PIECES = [f"##{a}{b}" for a in "abcdefghijklmnopqrst" for b in "abcdefghijklmnopqrst"]
VOCABULARY = SPECIALS + CHARACTERS + PIECES


def synthetic_corpus(
    documents: int, *, most_sentences: int = 21, with_tokens: bool = True, seed: int = 1
) -> IndexedCorpus:
    """Documents of 1 to `most_sentences` sentences of 2 to 82 tokens (mean 42), in words of 1 to 4 tokens, some of them
    entities or phrases. Without tokens only the index is real."""
    rng = np.random.default_rng(seed)
    sentences = rng.integers(1, most_sentences + 1, documents)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(2, 83, sentences.sum()))]).astype(np.int64)
    ends = np.concatenate([[0], np.cumsum(sentences)]).astype(np.int64)
    count = int(offsets[-1])
    if not with_tokens:
        return IndexedCorpus(Path("synthetic"), np.broadcast_to(np.uint16(5), count), None, offsets, ends)
    lengths = rng.choice([1, 2, 3, 4], count, p=[0.45, 0.42, 0.08, 0.05])
    heads = np.cumsum(np.concatenate([[0], lengths]))
    boundaries = np.zeros(count, np.uint8)
    boundaries[heads[heads < count]] = rng.choice([2, 3, 4], (heads < count).sum(), p=[0.92, 0.05, 0.03])
    boundaries[offsets[:-1]] = 2
    tokens = rng.integers(len(SPECIALS), len(SPECIALS) + len(CHARACTERS), count)
    pieces = (boundaries == 0) & (rng.random(count) < 0.1)
    tokens[pieces] = rng.integers(len(SPECIALS) + len(CHARACTERS), len(VOCABULARY), pieces.sum())
    return IndexedCorpus(Path("synthetic"), tokens.astype(np.uint16), boundaries, offsets, ends)
