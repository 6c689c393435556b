"""Writes a corpus as a stream: `.bin` and `.seg` while sentences arrive, the index from temporary files at the end.

All files are written under `.part` names, synced and renamed; `.idx` is renamed last, so a corpus with an `.idx` is
complete. `model_build.atomic_write` does not fit here: several files stay open across calls and appear in this order.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from model_build.atomic_write import sync_folder
from training.corpus.indexed import DTYPES, HEADER, MAGIC, CorpusError, with_suffix
from training.corpus.output import Output

LEVELS = ("inside", "character", "word", "phrase", "entity")


def best_dtype(vocab_size: int) -> np.dtype:
    """The dtype that Megatron chooses: uint16 below 65,500 tokens, otherwise int32."""
    return np.dtype(np.uint16 if vocab_size < 65500 else np.int32)


class CorpusWriter:
    """Writes the corpus `prefix` sentence by sentence, in constant memory.

    A context manager: leaving it without `finish` removes all files. Raises CorpusError if the corpus exists, and
    WriteError, which names the file, if the disk is full or refuses.
    """

    def __init__(self, prefix: Path, dtype: np.dtype, *, boundaries: bool = True) -> None:
        refuse_existing(prefix)
        prefix.parent.mkdir(parents=True, exist_ok=True)
        self.prefix, self.dtype = prefix, dtype
        self.counts = {"documents": 0, "sentences": 0, "tokens": 0}
        self._levels = np.zeros(len(LEVELS), dtype=np.int64)
        self._outputs: dict[str, Output] = {}
        for suffix in (".bin", ".seg", ".sizes", ".documents") if boundaries else (".bin", ".sizes", ".documents"):
            self._outputs[suffix] = Output(with_suffix(prefix, f"{suffix}.part"))

    def add(
        self, tokens: np.ndarray, boundaries: np.ndarray | None, sizes: np.ndarray, begins_document: np.ndarray
    ) -> None:
        """Adds whole sentences: tokens [t], boundaries uint8 [t], sizes [s] that add up to t, begins_document bool [s].

        `boundaries` is None for a corpus without boundary bytes.
        """
        self._outputs[".bin"].write(np.ascontiguousarray(tokens, dtype=self.dtype))
        if boundaries is not None:
            self._outputs[".seg"].write(np.ascontiguousarray(boundaries, dtype=np.uint8))
            self._levels += np.bincount(boundaries, minlength=len(LEVELS))
        self._outputs[".sizes"].write(np.ascontiguousarray(sizes, dtype="<i4"))
        first = np.flatnonzero(begins_document) + self.counts["sentences"]
        self._outputs[".documents"].write(first.astype("<i8"))
        self.counts["documents"] += len(first)
        self.counts["sentences"] += len(sizes)
        self.counts["tokens"] += len(tokens)

    def finish(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """Writes the index and `prefix.json`, which is `about` with counts and checksums, and renames all files.

        Returns the content of `prefix.json`. Raises CorpusError if the corpus has no sentence.
        """
        if not self.counts["documents"]:
            raise CorpusError(f"{self.prefix} would be empty: no document contains a token; check the inputs.")
        self._outputs[".idx"] = Output(with_suffix(self.prefix, ".idx.part"))
        self._write_index(self._outputs[".idx"])
        kept = [suffix for suffix in (".bin", ".seg", ".idx") if suffix in self._outputs]
        for output in self._outputs.values():
            output.close()
        description: dict[str, Any] = {**about, "dtype": self.dtype.name, "counts": dict(self.counts)}
        if ".seg" in kept:
            description["units"] = dict(zip(LEVELS[1:], map(int, self._levels[1:]), strict=True))
        description["files"] = {suffix: self._outputs[suffix].description() for suffix in kept}
        text = json.dumps(description, ensure_ascii=False, indent=1) + "\n"
        self._outputs[".json"] = Output(with_suffix(self.prefix, ".json.part"))
        self._outputs[".json"].write(text.encode("utf-8"))
        self._outputs[".json"].close()
        for suffix in (".bin", ".seg", ".json", ".idx"):
            if suffix in self._outputs:
                os.replace(self._outputs[suffix].path, with_suffix(self.prefix, suffix))
        sync_folder(self.prefix.parent)
        return description

    def _write_index(self, index: Output) -> None:
        code = next(code for code, kind in DTYPES.items() if kind == self.dtype.type)
        index.write(HEADER.pack(MAGIC, 1, code, self.counts["sentences"], self.counts["documents"] + 1))
        for sizes in self._outputs[".sizes"].blocks("<i4"):
            index.write(sizes)
        position = 0
        for sizes in self._outputs[".sizes"].blocks("<i4"):
            ends = np.cumsum(sizes, dtype="<i8") * self.dtype.itemsize + position
            index.write(ends - sizes.astype("<i8") * self.dtype.itemsize)
            position = int(ends[-1])
        for documents in self._outputs[".documents"].blocks("<i8"):
            index.write(documents)
        index.write(np.array([self.counts["sentences"]], dtype="<i8"))

    def __enter__(self) -> CorpusWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for output in self._outputs.values():
            output.discard()


def refuse_existing(prefix: Path) -> None:
    """Raises CorpusError if there is a complete corpus `prefix`: a corpus is never overwritten."""
    if with_suffix(prefix, ".idx").exists():
        raise CorpusError(f"the corpus {prefix} exists already; remove its files or choose another --output.")
