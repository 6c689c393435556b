"""Boundary bytes: one level per token, from units that are measured in characters."""

from __future__ import annotations

import numpy as np

from training.corpus.indexed import CHARACTER, INSIDE, WORD
from training.corpus.segmenters import Units


def boundary_bytes(
    ids: np.ndarray, row_splits: np.ndarray, starts: np.ndarray, is_piece: np.ndarray, units: Units | None
) -> np.ndarray:
    """uint8 [T]: 0 inside a unit, else the level of the unit that begins at this token (see `indexed`).

    `ids` int [T], `row_splits` int64 [n + 1] and `starts` int32 [T] are the results of `ErnieTokenizer.encode_flat` for
    n sentences. `is_piece` bool [vocabulary] marks the `##` tokens. `units` are the units of the same sentences; if
    None, every token that is not a `##` piece begins a unit.
    """
    heads = ~is_piece[ids]
    first = row_splits[:-1][np.diff(row_splits) > 0]
    levels = np.full(len(ids), WORD, dtype=np.uint8)
    if units is not None:
        unit = _unit_of_token(row_splits, starts, units)
        heads[1:] &= unit[1:] != unit[:-1]
        levels = units.levels[unit]
    heads[first] = True
    positions = np.flatnonzero(heads)
    lengths = np.diff(np.append(positions, len(ids)))
    chosen = levels[positions]
    chosen[(lengths == 1) & (chosen == WORD)] = CHARACTER
    boundaries = np.full(len(ids), INSIDE, dtype=np.uint8)
    boundaries[positions] = chosen
    return boundaries


def _unit_of_token(row_splits: np.ndarray, starts: np.ndarray, units: Units) -> np.ndarray:
    """int64 [T]: the index of the unit that contains the first character of each token."""
    unit_starts = np.cumsum(units.lengths) - units.lengths
    total = int(units.lengths.sum())
    unit_of_character = np.zeros(total, dtype=np.int64)
    unit_of_character[unit_starts[1:]] = 1
    np.cumsum(unit_of_character, out=unit_of_character)
    ends = np.concatenate([[0], np.cumsum(units.lengths)])
    sentence_starts = ends[np.concatenate([[0], np.cumsum(units.counts)])[:-1]]
    return unit_of_character[np.repeat(sentence_starts, np.diff(row_splits)) + starts]
