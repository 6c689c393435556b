"""Exact duplicates among documents, found by a 128-bit hash of their text."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

BUCKET = 1 << 22
"""Documents compared at once: about 150 MB."""


def digest(text: str) -> bytes:
    """The 16-byte BLAKE2b hash of a document's text."""
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest()


def first_occurrences(parts: Sequence[np.ndarray], bucket: int = BUCKET) -> np.ndarray:
    """bool [D]: whether a document is the first with its digest, in the order of `parts`, uint64 [d, 2] each.

    Needs one byte per document, and memory for one bucket of digests; each bucket reads all parts once.
    """
    starts = np.cumsum([0, *map(len, parts)])
    kept = np.zeros(int(starts[-1]), dtype=bool)
    buckets = max(1, -(-len(kept) // bucket))
    for number in range(buckets):
        chosen = [np.flatnonzero(part[:, 0] % np.uint64(buckets) == number) for part in parts]
        digests = np.concatenate([part[rows] for part, rows in zip(parts, chosen, strict=True)] or [np.empty((0, 2))])
        indexes = np.concatenate([rows + start for rows, start in zip(chosen, starts, strict=False)] or [[]])
        order = np.lexsort((digests[:, 1], digests[:, 0]))  # stable: of equal digests the first comes first
        ordered = digests[order]
        new = np.ones(len(order), dtype=bool)
        new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        kept[indexes[order[new]]] = True
    return kept
