"""Reads a corpus from disk: Megatron's `.bin` and `.idx`, and `.seg` with one boundary byte per token.

Format of `.idx`, little-endian (Megatron-LM, megatron/core/datasets/indexed_dataset.py): 9 bytes `MMIDIDX\\0\\0`,
u64 version 1, u8 dtype code, u64 number of sequences n, u64 length of doc_idx, then int32 sizes[n], int64 byte
pointers[n], int64 doc_idx (cumulative, first 0, last n). Here, a sequence is a sentence.

`.seg` holds one uint8 per token of `.bin`: 0 inside a unit (always for a WordPiece continuation), otherwise the level
of the unit that begins at the token: 1 a unit of one token, 2 a word of several tokens, 3 a phrase, 4 an entity. A
phrase or entity of one token keeps its level.

PaddleNLP's older pairs of files are read too: `_ids.npy`, the tokens [T], and `_idx.npz` with `lens` int32 [n] and
`docs` int64 [D + 1].
"""

from __future__ import annotations

import mmap
import struct
import zipfile
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
TRAINABLE = (np.uint16, np.int32)
"""The dtypes of tokens that pretraining reads; `ernie-train corpus convert` writes one of them."""


class CorpusError(ValueError):
    """A corpus that cannot be read or built; the message names the file, what is wrong and what to do."""


@dataclass(frozen=True)
class IndexedCorpus:
    """A corpus, mapped into memory. Sentence i is `tokens[offsets[i]:offsets[i + 1]]`."""

    prefix: Path
    tokens: np.ndarray
    """integers [T]; uint16 or int32 if this program wrote the corpus"""
    boundaries: np.ndarray | None
    """uint8 [T]: 0 inside a unit, else the level of the unit that begins here (CHARACTER … ENTITY)"""
    offsets: np.ndarray
    """int64 [n + 1], in tokens"""
    documents: np.ndarray
    """int64 [D + 1]: document d has the sentences documents[d] … documents[d + 1] - 1"""

    @classmethod
    def open(cls, prefix: Path | str) -> IndexedCorpus:
        """Maps `prefix.bin`, `prefix.idx` and, if present, `prefix.seg`, or PaddleNLP's `_ids.npy` and `_idx.npz`.

        Sizes, offsets and lengths are checked here, from the index alone; `verify_corpus` also checks checksums, token
        ids and boundary bytes. Raises CorpusError, which names the file that is absent or wrong.
        """
        prefix = Path(prefix)
        if with_suffix(prefix, ".idx").is_file():
            return _open_megatron(prefix)
        if with_suffix(prefix, "_idx.npz").is_file():
            return _open_paddlenlp(prefix)
        raise CorpusError(f"there is no corpus {prefix}: neither {prefix}.idx nor {prefix}_idx.npz exists.")

    def sentence(self, index: int) -> np.ndarray:
        """Tokens of sentence `index`."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]


def with_suffix(prefix: Path, suffix: str) -> Path:
    """`prefix` with `suffix` appended; `Path.with_suffix` would cut a prefix such as `wiki.2024` at its dot."""
    return prefix.with_name(prefix.name + suffix)


def _open_megatron(prefix: Path) -> IndexedCorpus:
    index = with_suffix(prefix, ".idx")
    dtype, sizes, pointers, documents = _read_index(index)
    offsets = _offsets(sizes, index)
    if not np.array_equal(pointers, offsets[:-1] * dtype.itemsize):
        raise CorpusError(f"{index} is damaged: its pointers do not follow from its sizes; build the corpus again.")
    tokens = _map(with_suffix(prefix, ".bin"), dtype, int(offsets[-1]))
    seg = with_suffix(prefix, ".seg")
    boundaries = _map(seg, np.dtype(np.uint8), int(offsets[-1])) if seg.is_file() else None
    _check_documents(documents, len(sizes), index)
    return IndexedCorpus(prefix, tokens, boundaries, offsets, documents)


def _read_index(path: Path) -> tuple[np.dtype, np.ndarray, np.ndarray, np.ndarray]:
    """dtype of the tokens, sizes int32 [n], pointers int64 [n], doc_idx int64 [D + 1]; the arrays are copies."""
    data = path.read_bytes()
    if len(data) < HEADER.size:
        raise CorpusError(f"{path} has only {len(data)} bytes, too few for a corpus index; build the corpus again.")
    magic, version, code, count, documents = HEADER.unpack_from(data)
    if magic != MAGIC or version != 1:
        raise CorpusError(f"{path} is not a corpus index: it does not begin with MMIDIDX, version 1.")
    if code not in DTYPES or not np.issubdtype(DTYPES[code], np.integer):
        raise CorpusError(f"{path} has the unknown dtype code {code}; it is damaged or from another program.")
    expected = HEADER.size + 12 * count + 8 * documents
    if len(data) == expected + count and count:
        raise CorpusError(
            f"{path} is the index of a multimodal corpus of Megatron-core: after the documents it has one byte, the "
            f"mode, for each of its {count:,} sequences; give a corpus of text only."
        )
    if len(data) != expected:
        raise CorpusError(
            f"{path} has {len(data)} bytes, but should have {expected} by its header; copy or build it again."
        )
    sizes = np.frombuffer(data, "<i4", count, HEADER.size).copy()
    # The arrays after the sizes are not aligned to 8 bytes, so they are copied.
    pointers = np.frombuffer(data, "<i8", count, HEADER.size + 4 * count).copy()
    doc_idx = np.frombuffer(data, "<i8", documents, HEADER.size + 12 * count).copy()
    return np.dtype(DTYPES[code]), sizes, pointers, doc_idx


def _offsets(sizes: np.ndarray, path: Path) -> np.ndarray:
    """int64 [n + 1]: cumulative sizes."""
    if len(sizes) and sizes.min() < 0:
        raise CorpusError(f"{path} is damaged: it has a negative sentence length; build the corpus again.")
    offsets = np.zeros(len(sizes) + 1, dtype=np.int64)
    np.cumsum(sizes, out=offsets[1:])
    return offsets


def _check_documents(documents: np.ndarray, sentences: int, path: Path) -> None:
    good = len(documents) and documents[0] == 0 and documents[-1] == sentences and (np.diff(documents) >= 0).all()
    if not good:
        raise CorpusError(
            f"{path} is damaged: its document index does not rise from 0 to {sentences}; build the corpus again."
        )


def _map(path: Path, dtype: np.dtype, count: int) -> np.ndarray:
    """A file of exactly `count` numbers, mapped read-only."""
    if not path.is_file():
        raise CorpusError(f"{path} is absent, but its index exists; copy it or build the corpus again.")
    found, expected = path.stat().st_size, count * dtype.itemsize
    if found != expected:
        raise CorpusError(
            f"{path} has {found} bytes, but should have {expected} by the index; copy it or build the corpus again."
        )
    if not count:
        return np.empty(0, dtype)
    with path.open("rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype)


def _open_paddlenlp(prefix: Path) -> IndexedCorpus:
    ids, index = with_suffix(prefix, "_ids.npy"), with_suffix(prefix, "_idx.npz")
    try:
        with np.load(index) as arrays:
            lengths, documents = arrays["lens"], arrays["docs"].astype(np.int64)
        tokens = np.load(ids, mmap_mode="r")
    except FileNotFoundError as error:
        raise CorpusError(f"{ids} is absent, but {index} exists; copy it.") from error
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CorpusError(f"{prefix}_ids.npy and _idx.npz are not a corpus of PaddleNLP: {error}") from error
    if tokens.ndim != 1 or tokens.dtype not in (np.uint16, np.int32):
        raise CorpusError(
            f"{ids} holds {tokens.dtype} {list(tokens.shape)}; one dimension of uint16 or int32 is expected."
        )
    offsets = _offsets(lengths, index)
    if offsets[-1] != len(tokens):
        raise CorpusError(f"{ids} has {len(tokens)} tokens, but should have {offsets[-1]} by {index}; copy both again.")
    _check_documents(documents, len(lengths), index)
    return IndexedCorpus(prefix, tokens, None, offsets, documents)
