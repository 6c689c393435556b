"""Whole words are masked, within the budget, and never a special token."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.masking import mask_words

MASK = 3
ORDINARY = np.arange(5, 50)


def mask(ids: np.ndarray, starts: np.ndarray, seed: int, probability: float = 0.15) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    maskable = ~np.isin(ids, [0, 1, 2, 3, 4])
    return mask_words(ids, starts, maskable, probability=probability, mask_id=MASK, ordinary_ids=ORDINARY, rng=rng)


@given(
    words=st.lists(st.integers(1, 4), min_size=1, max_size=40),
    seed=st.integers(0, 2**32 - 1),
    probability=st.floats(0.05, 0.6),
)
def test_masks_cover_whole_words_within_the_budget(words: list[int], seed: int, probability: float) -> None:
    ids = np.array([1, *np.random.default_rng(seed).integers(5, 50, sum(words)), 2])
    starts = np.zeros(len(ids), dtype=bool)
    starts[[0, len(ids) - 1]] = True
    starts[1 + np.cumsum([0, *words[:-1]])] = True
    masked, chosen = mask(ids, starts, seed, probability)
    assert 0 not in chosen
    assert len(ids) - 1 not in chosen
    word_of = np.cumsum(starts)
    for word in set(word_of[chosen]):
        assert set(np.flatnonzero(word_of == word)) <= set(chosen)
    # One word is always masked, even one longer than the budget.
    assert len(chosen) <= max(round(probability * sum(words)), max(words))
    untouched = np.setdiff1d(np.arange(len(ids)), chosen)
    assert (masked[untouched] == ids[untouched]).all()


def test_eight_in_ten_become_the_mask_token() -> None:
    ids = np.full(2000, 7)
    masked, chosen = mask(ids, np.ones(2000, dtype=bool), seed=1, probability=1.0)
    assert len(chosen) == 2000
    assert 0.77 < (masked == MASK).mean() < 0.83
    # A tenth stays, and one random replacement in 45 is the token itself.
    assert 0.08 < (masked == 7).mean() < 0.13
