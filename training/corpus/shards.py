"""One shard of a corpus: cleans, tokenises and segments its documents, and writes them to a folder.

A shard depends only on its pieces, the vocabulary and the settings, so any process may build it, at any time. The
folder contains tokens.bin, boundaries.bin (uint8), sizes.bin (int32, tokens per sentence), owners.bin (uint32, document
of each sentence), digests.bin (two uint64 per document) and shard.json (counts).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np

from model_build.atomic_write import atomic_folder
from native import ErnieTokenizer
from training.corpus.boundaries import boundary_bytes
from training.corpus.cleaning import clean, sentences
from training.corpus.duplicates import digest
from training.corpus.inputs import Faults, Piece, Reader
from training.corpus.output import Output
from training.corpus.segmenters import load_segmenter
from training.corpus.settings import CorpusSettings, Rules
from training.corpus.writer import best_dtype

CHUNK = 1 << 18
"""Characters tokenised and segmented at once; their word lists take about 30 MB in Python."""
ARRAYS = ("tokens.bin", "boundaries.bin", "sizes.bin", "owners.bin", "digests.bin")
COUNTS = "shard.json"


@dataclass(frozen=True)
class ShardJob:
    """The inputs of one shard."""

    folder: Path
    """its final name"""
    pieces: Sequence[Piece]
    vocab: Path
    settings: CorpusSettings

    @property
    def bytes(self) -> int:
        """Size of the inputs on disk in bytes."""
        return sum(piece.stop - piece.start for piece in self.pieces)


@dataclass
class ShardCounts:
    """Counts of what was read and left out for a shard, before duplicates across shards are removed."""

    text_bytes: int = 0
    documents_read: int = 0
    documents_too_short: int = 0
    documents_cut: int = 0
    duplicates: int = 0
    unaligned_sentences: int = 0
    faults: Faults = field(default_factory=Faults)


def build_shard(job: ShardJob) -> Path:
    """Builds the shard and returns its folder. A finished shard is kept. Raises CorpusError and WriteError."""
    if job.folder.is_dir():
        return job.folder
    # A worker of a killed build may still build the same shard: the bytes are the same, and the first result is kept.
    with atomic_folder(job.folder, existing="keep") as folder, contextlib.ExitStack() as stack:
        outputs = {name: Output(folder / name, hashed=False) for name in (*ARRAYS, COUNTS)}
        for output in outputs.values():
            stack.callback(output.close)
        with _no_collector():
            counts = _fill(outputs, job)
        outputs[COUNTS].write(json.dumps(dataclasses.asdict(counts), ensure_ascii=False).encode("utf-8"))
    return job.folder


@contextlib.contextmanager
def _no_collector() -> Iterator[None]:
    """Turns the garbage collector off: it takes a tenth of the time, and the words created here form no cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def read_counts(folder: Path) -> ShardCounts:
    """The counts that `build_shard` wrote."""
    values = json.loads((folder / COUNTS).read_text(encoding="utf-8"))
    return ShardCounts(**{**values, "faults": Faults(**values["faults"])})


def read_array(folder: Path, name: str, dtype: np.dtype) -> np.ndarray:
    """One array of the shard, mapped into memory."""
    path = folder / name
    return np.memmap(path, dtype, "r") if path.stat().st_size else np.empty(0, dtype)


class SentenceEncoder:
    """Tokenizer and segmenter: converts sentences to tokens and boundary bytes."""

    def __init__(self, vocab: Path, segmenter: str, levels: bool, rules: Rules = "bert") -> None:
        self.tokenizer = ErnieTokenizer.from_file(vocab, rules=rules)
        self.dtype = best_dtype(self.tokenizer.vocab_size)
        self.segmenter = load_segmenter(segmenter, levels)
        self._is_piece = np.array([token.startswith("##") and len(token) > 2 for token in self.tokenizer.tokens])

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """tokens [T], boundaries uint8 [T], sizes int32 [n] of n sentences, and the number of unaligned sentences."""
        ids, row_splits, starts = self.tokenizer.encode_flat(texts)
        units = self.segmenter.units(texts) if self.segmenter else None
        boundaries = boundary_bytes(ids, row_splits, starts, self._is_piece, units)
        return (
            ids.astype(self.dtype),
            boundaries,
            np.diff(row_splits).astype(np.int32),
            units.unaligned if units else 0,
        )


@functools.lru_cache(maxsize=2)
def encoder_of(vocab: Path, segmenter: str, levels: bool, rules: Rules) -> SentenceEncoder:
    """An encoder, kept for the next shard that this process makes."""
    return SentenceEncoder(vocab, segmenter, levels, rules)


def _fill(outputs: Mapping[str, Output], job: ShardJob) -> ShardCounts:
    settings, counts = job.settings, ShardCounts()
    encoder = encoder_of(job.vocab, settings.segmenter, settings.levels, settings.rules)
    reader = Reader(settings.document == "line", settings.key)
    seen: set[bytes] = set()
    owner = 0
    chunk = _Chunk(encoder, outputs)
    for text in chain.from_iterable(map(reader.documents, job.pieces)):
        counts.documents_read += 1
        document = clean(text, settings.max_repeat, settings.plain_width)
        if len(document) < settings.min_document_length:
            counts.documents_too_short += 1
            continue
        mark = digest(document)
        if settings.remove_duplicates and mark in seen:
            counts.duplicates += 1
            continue
        seen.add(mark)
        for sentence in sentences(document):
            chunk.add(sentence, owner)
        chunk.end_document(mark)
        owner += 1
    chunk.flush()
    counts.text_bytes, counts.documents_cut, counts.faults = reader.text_bytes, reader.cut_documents, reader.faults
    counts.unaligned_sentences = chunk.unaligned
    return counts


class _Chunk:
    """A buffer of sentences that are tokenised together."""

    def __init__(self, encoder: SentenceEncoder, outputs: Mapping[str, Output]) -> None:
        self._encoder, self._outputs = encoder, outputs
        self._sentences: list[str] = []
        self._owners: list[int] = []
        self._digests: list[bytes] = []
        self._characters = 0
        self.unaligned = 0

    def add(self, sentence: str, owner: int) -> None:
        self._sentences.append(sentence)
        self._owners.append(owner)
        self._characters += len(sentence)
        if self._characters >= CHUNK:
            self.flush()

    def end_document(self, mark: bytes) -> None:
        self._digests.append(mark)

    def flush(self) -> None:
        """Tokenises and writes the buffered sentences; a sentence without a token is left out."""
        tokens, boundaries, sizes, unaligned = self._encoder.encode(self._sentences)
        written = sizes > 0
        self._outputs["tokens.bin"].write(tokens)
        self._outputs["boundaries.bin"].write(boundaries)
        self._outputs["sizes.bin"].write(sizes[written])
        self._outputs["owners.bin"].write(np.array(self._owners, dtype="<u4")[written])
        self._outputs["digests.bin"].write(b"".join(self._digests))
        self.unaligned += unaligned
        self._sentences, self._owners, self._digests, self._characters = [], [], [], 0
