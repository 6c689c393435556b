"""The order of samples: a cached map of one epoch of a corpus, and a keyed permutation of it for each epoch."""

from __future__ import annotations

import hashlib
import json
import logging
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import native
from model_build.atomic_write import atomic_file
from training.corpus.indexed import IndexedCorpus
from training.corpus.split import split_documents

logger = logging.getLogger(__name__)

SAMPLE = np.dtype([("begin", "<i8"), ("length", "<i4"), ("target", "<u2"), ("pair", "<u2")])
"""One row of a map. The sample consists of `tokens[begin : begin + length]`, whole sentences of one document, of which
`target` tokens are kept in a batch. `pair` is 1 if a sentence ends inside, so that the sample can be cut into a
sentence-order pair, and 0 if it is used for the masked LM only."""

FORMAT = 1
MAGIC = b"ERNIEMAP"
HEADER = struct.Struct("<8sIIQ32s8x")
"""magic, format version, bytes per row, number of rows, sha256 of the rows; then the rows"""


class SampleError(ValueError):
    """A corpus, or a part of one, without samples; the message says why and what to do."""


@dataclass(frozen=True)
class MapSettings:
    """What a sample map depends on, apart from the corpus."""

    max_seq_length: int = 512
    """tokens per sample in the batch, including special tokens"""
    short_seq_prob: float = 0.1
    """share of the samples with a shorter target length, drawn uniformly from 2 to the full length"""
    sentence_order: bool = True
    """put at least two sentences into a sample if the document has them"""
    seed: int = 1

    def __post_init__(self) -> None:
        if not 5 <= self.max_seq_length <= 65535:
            raise ValueError(f"max_seq_length is {self.max_seq_length}; it must be between 5 and 65535.")
        if not 0 <= self.short_seq_prob <= 1:
            raise ValueError(f"short_seq_prob is {self.short_seq_prob}; it must be between 0 and 1.")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}; it must be between 0 and 2^63 - 1.")

    @property
    def window(self) -> int:
        """Text tokens per sample: max_seq_length without [CLS] and one [SEP], or two with sentence order."""
        return self.max_seq_length - (3 if self.sentence_order else 2)


@dataclass(frozen=True)
class Source:
    """The samples of one part of a corpus, in an endless sequence of epochs with different orders."""

    corpus: IndexedCorpus
    rows: np.ndarray
    """SAMPLE [n], one epoch"""
    seed: int
    """seed of orders and random draws, from the run's seed and the description of the map"""

    def at(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sample numbers of the endless sequence, int64 [m] -> epoch int64 [m] and row of the map int64 [m]."""
        return native.permute(indices, size=len(self.rows), seed=self.seed)


def open_source(corpus: IndexedCorpus, documents: range, settings: MapSettings, cache: Path | None) -> Source:
    """The samples of the documents `documents` of a corpus; the map is cached in the folder `cache` if one is given.

    Raises SampleError if there are none, and ValueError if the index of the corpus is invalid.
    """
    description = describe(corpus, documents, settings)
    rows = _cached(corpus, documents, settings, description, cache) if cache else build(corpus, documents, settings)
    return Source(corpus, rows, int.from_bytes(_digest(description)[:8], "little"))


def open_part(
    corpora: Sequence[IndexedCorpus], split: str, part: str, settings: MapSettings, cache: Path | None
) -> list[Source]:
    """The samples of one part (train, validation, test) of every corpus. Raises ValueError if one would be empty."""
    return [
        open_source(each, split_documents(len(each.documents) - 1, split, part, str(each.prefix)), settings, cache)
        for each in corpora
    ]


def describe(corpus: IndexedCorpus, documents: range, settings: MapSettings) -> dict[str, object]:
    """Everything that a map depends on, as JSON; its hash is the file name in the cache."""
    index = hashlib.sha256()
    for array in (corpus.offsets, corpus.documents):
        index.update(np.ascontiguousarray(array).view(np.uint8).data)
    return {
        "format": FORMAT,
        "corpus": {
            "tokens": len(corpus.tokens),
            "sentences": len(corpus.offsets) - 1,
            "documents": len(corpus.documents) - 1,
            "index_sha256": index.hexdigest(),
        },
        "documents": [documents.start, documents.stop],
        "window": settings.window,
        "short_seq_prob": settings.short_seq_prob,
        "min_sentences": 2 if settings.sentence_order else 1,
        "seed": settings.seed,
    }


def build(corpus: IndexedCorpus, documents: range, settings: MapSettings) -> np.ndarray:
    """The map of one epoch over a range of documents, SAMPLE [n], in corpus order. Raises like `open_source`."""
    words, counts = native.build_sample_map(
        corpus.offsets,
        corpus.documents,
        tokens=len(corpus.tokens),
        first=documents.start,
        last=documents.stop,
        window=settings.window,
        short_seq_prob=settings.short_seq_prob,
        pairs=settings.sentence_order,
        seed=settings.seed,
    )
    logger.info("sample map of %s: %s", corpus.prefix, ", ".join(f"{n:,} {name}" for name, n in counts.items()))
    if not len(words):
        raise SampleError(
            f"{corpus.prefix} has no samples: documents {documents.start} to {documents.stop} have no tokens. "
            "Build the corpus from more text, or give this part a larger share in --split."
        )
    if settings.sentence_order and not counts["pairs"]:
        logger.warning(
            "%s has no document with two sentences, so sentence order is not learnt from it; build it from text with "
            "several sentences per document.",
            corpus.prefix,
        )
    return words.view(SAMPLE)[:, 0]


def _digest(description: dict[str, object]) -> bytes:
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).digest()


def _cached(
    corpus: IndexedCorpus, documents: range, settings: MapSettings, description: dict[str, object], cache: Path
) -> np.ndarray:
    path = cache / f"samples-{_digest(description).hex()[:32]}.map"
    rows = _read(path)
    if rows is None:
        rows = build(corpus, documents, settings)
        try:
            with atomic_file(path, "wb") as file:
                file.write(_header(rows))
                file.write(rows.view(np.uint8).data)
            with atomic_file(path.with_suffix(".json")) as text:
                text.write(json.dumps(description, indent=2))
        except OSError as error:
            logger.warning("the sample map cannot be cached in %s and is built at every start: %s", cache, error)
    return rows


def _header(rows: np.ndarray) -> bytes:
    digest = hashlib.sha256(rows.view(np.uint8).data).digest()
    return HEADER.pack(MAGIC, FORMAT, SAMPLE.itemsize, len(rows), digest)


def _read(path: Path) -> np.ndarray | None:
    """The rows of a map, mapped into memory; None if the file is absent or damaged."""
    try:
        if path.stat().st_size <= HEADER.size:
            raise ValueError("it is incomplete")
        with path.open("rb") as file:
            header = file.read(HEADER.size)
        if (path.stat().st_size - HEADER.size) % SAMPLE.itemsize:
            raise ValueError("it is incomplete")
        rows = np.memmap(path, dtype=SAMPLE, mode="r", offset=HEADER.size)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.warning("the sample map %s cannot be read and is built again: %s", path, error)
        return None
    if header != _header(rows):
        logger.warning("the sample map %s is damaged and is built again.", path)
        return None
    return rows
