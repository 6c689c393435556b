"""Reading a corpus on disk: Megatron's `.bin`/`.idx`, and beside them `.seg`, one boundary byte a token.

Format of `.idx`, little-endian (Megatron-LM, megatron/core/datasets/indexed_dataset.py): 9 bytes `MMIDIDX\\0\\0`,
u64 version 1, u8 dtype code, u64 number of sequences n, u64 length of doc_idx, then int32 sizes[n], int64 byte
pointers[n], int64 doc_idx (cumulative, first 0, last n). A sequence is a sentence here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MAGIC = b"MMIDIDX\x00\x00"
HEADER = struct.Struct("<9sQBQQ")
DTYPES: dict[int, type[np.generic]] = {
    1: np.uint8,
    2: np.int8,
    3: np.int16,
    4: np.int32,
    5: np.int64,
    8: np.uint16,
}
INSIDE, CHARACTER, WORD, PHRASE, ENTITY = range(5)


class CorpusError(ValueError):
    """A corpus that cannot be read; the message names the file, what is wrong and what to do."""


@dataclass(frozen=True)
class IndexedCorpus:
    """A corpus, mapped into memory. Sentence i is `tokens[offsets[i]:offsets[i + 1]]`."""

    prefix: Path
    tokens: np.ndarray
    """uint16 or int32 [T]"""
    boundaries: np.ndarray | None
    """uint8 [T]: 0 inside a unit, else the level of the unit that begins here (CHARACTER … ENTITY)"""
    offsets: np.ndarray
    """int64 [n + 1], in tokens"""
    documents: np.ndarray
    """int64 [D + 1]: document d has the sentences documents[d] … documents[d + 1] - 1"""
