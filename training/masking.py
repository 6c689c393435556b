"""Whole-word masking of a token stream (BERT's 80/10/10 rule, ERNIE 1.0's word units).

This is the first, plain version; the native batch maker replaces it.
"""

from __future__ import annotations

import numpy as np


def mask_words(
    ids: np.ndarray,
    starts: np.ndarray,
    maskable: np.ndarray,
    *,
    probability: float,
    mask_id: int,
    ordinary_ids: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Masks whole words of one row.

    ids int [S]; starts bool [S], True at a word's first token; maskable bool [S], False at special tokens. Words are
    drawn in random order while the masked tokens stay within `probability` of the maskable ones (at least one).
    Each chosen token becomes [MASK] (80 %), a random ordinary token (10 %) or stays (10 %).
    Returns the masked ids and the chosen positions, ascending.
    """
    word_of = np.cumsum(starts)
    candidates = np.flatnonzero(maskable)
    budget = max(1, round(probability * len(candidates)))
    words, counts = np.unique(word_of[candidates], return_counts=True)
    order = rng.permutation(len(words))
    taken = np.cumsum(counts[order]) <= budget
    taken[0] = True
    chosen = candidates[np.isin(word_of[candidates], words[order[taken]])]
    masked = ids.copy()
    fate = rng.random(len(chosen))
    masked[chosen[fate < 0.8]] = mask_id
    random = chosen[(fate >= 0.8) & (fate < 0.9)]
    masked[random] = rng.choice(ordinary_ids, len(random))
    return masked, chosen
