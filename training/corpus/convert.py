"""Converts corpora of other programs.

PaddleNLP   `_ids.npy`/`_idx.npz`, or `.bin`/`.idx`, with word boundaries as ids at and above the size of the
            vocabulary: id size + k is the k-th single character U+4E00-U+9FA5 that has no `##` twin, inside a word.
            PaddleNLP counts a token that occurs twice in the vocabulary once (`$` in that of ERNIE 3.0), so the first
            of these ids may also be the id of the last token; it is read as a character inside a word.
ERNIE 1.0   gzipped lines `token_ids;sent_ids;pos_ids;seg_labels;next_sentence_label`: [CLS] A [SEP] B [SEP] with
            0 at the head of a unit, 1 inside and -1 at [CLS] and [SEP]. Label 1 says that B follows A in one document.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from native import ErnieTokenizer
from training.corpus.indexed import CHARACTER, INSIDE, WORD, CorpusError, IndexedCorpus
from training.corpus.merge import SENTENCES, copy_corpus
from training.corpus.writer import CorpusWriter, best_dtype

Row = tuple[list[int], list[int]]
"""Token ids and boundary labels (0 head, 1 inside) of one sentence."""


def convert_paddlenlp(prefix: Path, output: Path, vocab: Path | None = None) -> dict[str, Any]:
    """Writes PaddleNLP's corpus `prefix` as the corpus `output`; returns the description.

    With the vocabulary of the corpus, ids of marked characters become plain ids, and `.seg` gets the word boundaries.
    Without one the ids are copied, and no `.seg` is written. Raises CorpusError for ids beyond the marked characters.
    """
    corpus = IndexedCorpus.open(prefix)
    about: dict[str, Any] = {"format": "ernie-zh corpus 1", "converted": {"from": "PaddleNLP", "prefix": str(prefix)}}
    if vocab is None:
        with CorpusWriter(output, corpus.tokens.dtype, boundaries=False) as writer:
            copy_corpus(corpus, writer)
            return writer.finish(about)
    vocabulary = ErnieTokenizer.from_file(vocab).tokens
    plain, is_inside = _marked_characters(vocabulary)
    about["vocabulary"] = _vocabulary(vocab, vocabulary)
    begins = np.zeros(len(corpus.offsets), dtype=bool)
    begins[corpus.documents[:-1]] = True
    with CorpusWriter(output, best_dtype(len(vocabulary))) as writer:
        for start in range(0, len(corpus.offsets) - 1, SENTENCES):
            stop = min(start + SENTENCES, len(corpus.offsets) - 1)
            ids = corpus.tokens[corpus.offsets[start] : corpus.offsets[stop]]
            if len(ids) and ids.max() >= len(plain):
                raise CorpusError(
                    f"{prefix} has the id {ids.max()}, but {vocab} gives {len(plain)} ids, including marked "
                    "characters; give the vocabulary that it was made with."
                )
            sizes = np.diff(corpus.offsets[start : stop + 1])
            heads = ~is_inside[ids]
            heads[_sentence_starts(sizes)] = True
            writer.add(plain[ids], _boundaries(heads), sizes.astype(np.int32), begins[start:stop])
        return writer.finish(about)


def convert_ernie(inputs: Sequence[Path], output: Path, vocab: Path) -> dict[str, Any]:
    """Writes samples of the original ERNIE 1.0 format as the corpus `output`; returns the description.

    Each segment becomes a sentence; the two segments of a true pair become one document. Raises CorpusError, which
    names file and line, for the first sample that does not follow the format.
    """
    vocabulary = ErnieTokenizer.from_file(vocab).tokens
    is_piece = np.array([token.startswith("##") for token in vocabulary])
    about = {
        "format": "ernie-zh corpus 1",
        "converted": {"from": "ERNIE 1.0", "inputs": [str(path) for path in inputs]},
        "vocabulary": _vocabulary(vocab, vocabulary),
    }
    with CorpusWriter(output, best_dtype(len(vocabulary))) as writer:
        for path in inputs:
            for begins, ids, labels in _sentences(path, len(vocabulary)):
                array = np.array(ids)
                heads = (np.array(labels) == 0) & ~is_piece[array]
                heads[0] = True
                writer.add(array, _boundaries(heads), np.array([len(ids)]), np.array([begins]))
        return writer.finish(about)


def _marked_characters(vocabulary: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """For each id, including marked characters: the plain id, int64 [ids], and whether it is inside a word, bool."""
    ids = {token: index for index, token in enumerate(vocabulary)}
    size = len(ids)
    twins = [
        index
        for index, token in enumerate(vocabulary[:size])
        if len(token) == 1 and "\u4e00" <= token <= "\u9fa5" and f"##{token}" not in ids and ids[token] == index
    ]
    plain = np.arange(max(len(vocabulary), size + len(twins)))
    plain[size : size + len(twins)] = twins
    is_inside = np.zeros(len(plain), dtype=bool)
    is_inside[: len(vocabulary)] = [token.startswith("##") for token in vocabulary]
    is_inside[size : size + len(twins)] = True
    return plain, is_inside


def _sentence_starts(sizes: np.ndarray) -> np.ndarray:
    """int64: the start positions of the sentences that are not empty."""
    return (np.cumsum(sizes) - sizes)[sizes > 0]


def _boundaries(heads: np.ndarray) -> np.ndarray:
    """uint8 [T]: CHARACTER for a unit of one token, WORD for a longer one, INSIDE where `heads` bool [T] is False."""
    positions = np.flatnonzero(heads)
    boundaries = np.full(len(heads), INSIDE, dtype=np.uint8)
    boundaries[positions] = np.where(np.diff(np.append(positions, len(heads))) == 1, CHARACTER, WORD)
    return boundaries


def _vocabulary(path: Path, tokens: Sequence[str]) -> dict[str, Any]:
    return {"tokens": len(tokens), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _sentences(path: Path, vocab_size: int) -> Iterator[tuple[bool, list[int], list[int]]]:
    """For each sentence of a file: whether it begins a document, token ids, and labels."""
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                number += 1
                first, second, is_next = _sample(line, vocab_size)
                yield True, *first
                if second[0]:
                    yield not is_next, *second
    except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} is damaged after line {number}: {error}") from error
    except _BadSample as error:
        raise CorpusError(f"{path}: line {number} is not a sample of ERNIE 1.0: {error}.") from error


class _BadSample(Exception):
    """What is wrong with a line; becomes part of a CorpusError."""


def _sample(line: str, vocab_size: int) -> tuple[Row, Row, bool]:
    """The two segments without [CLS] and [SEP] (the second may be empty), and whether the second follows the first."""
    fields = line.strip().split(";")
    if len(fields) != 5:
        raise _BadSample(f"it has {len(fields)} fields, not 5")
    try:
        ids, sides, _, labels = (list(map(int, field.split())) for field in fields[:4])
    except ValueError as error:
        raise _BadSample(str(error)) from error
    if not len(ids) == len(sides) == len(labels):
        raise _BadSample(f"it has {len(ids)} ids, {len(sides)} segment ids and {len(labels)} labels")
    if fields[4] not in ("0", "1") or not {*sides} <= {0, 1} or not {*labels} <= {-1, 0, 1}:
        raise _BadSample("a segment id or the last field is not 0 or 1, or a label is not -1, 0 or 1")
    rows: tuple[Row, Row] = ([], []), ([], [])
    for token, side, label in zip(ids, sides, labels, strict=True):
        if label != -1:
            rows[side][0].append(token)
            rows[side][1].append(label)
    if not rows[0][0]:
        raise _BadSample("its first segment is empty")
    if not 0 <= min(ids) <= max(ids) < vocab_size:
        raise _BadSample(f"it has the id {max(ids)}, but the vocabulary has {vocab_size} tokens")
    return *rows, fields[4] == "1"
