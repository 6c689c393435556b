"""A packed token stream of a corpus, with word boundaries, cached beside a description of what made it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import rjieba
from tqdm import tqdm

from training.tokens import Encoder


def tokenize(documents: Iterable[list[str]], encoder: Encoder) -> tuple[np.ndarray, np.ndarray]:
    """ids uint16 [T] and boundaries uint8 [T] (2 at the first token of a word, 0 inside); [SEP] ends a document."""
    ids: list[np.ndarray] = []
    boundaries: list[np.ndarray] = []
    for document in tqdm(documents, desc="tokenize", unit=" documents", mininterval=5):
        pieces = 0
        for line in document:
            row, starts = encoder.pieces_with_offsets(line)
            word_starts = np.zeros(len(line) + 1, dtype=bool)
            word_starts[np.cumsum([0, *map(len, rjieba.cut(line))])] = True
            ids.append(row)
            boundaries.append(np.where(word_starts[starts], 2, 0).astype(np.uint8))
            pieces += len(row)
        if pieces:
            ids.append(np.array([encoder.sep], dtype=np.uint16))
            boundaries.append(np.array([2], dtype=np.uint8))
    return np.concatenate(ids), np.concatenate(boundaries)


def cached(
    directory: Path, description: dict[str, object], documents: Iterable[list[str]], encoder: Encoder
) -> tuple[np.ndarray, np.ndarray]:
    """`tokenize`, or its earlier result when the description (hashed into the file's name) is the same."""
    text = json.dumps(description, sort_keys=True, ensure_ascii=False)
    path = directory / f"stream-{hashlib.sha256(text.encode()).hexdigest()[:16]}.npz"
    if not path.is_file():
        directory.mkdir(parents=True, exist_ok=True)
        ids, boundaries = tokenize(documents, encoder)
        part = path.with_suffix(".part.npz")
        np.savez(part, ids=ids, boundaries=boundaries)
        os.replace(part, path)
        path.with_suffix(".json").write_text(text, encoding="utf-8")
    with np.load(path) as file:
        return file["ids"], file["boundaries"]
