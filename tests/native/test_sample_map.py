"""The sample map of one epoch, the permutation of an epoch, and blending."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

import native
from tests.native import oracle
from tests.native.corpora import SmallCorpus, small_corpora, unpacked


def build(
    corpus: SmallCorpus, window: int, short: float, pairs: bool, seed: int = 1, first: int = 0, last: int | None = None
) -> tuple[list[tuple[int, int, int, int]], dict[str, int]]:
    rows, counts = native.build_sample_map(
        corpus.offsets,
        corpus.documents,
        tokens=len(corpus.tokens),
        first=first,
        last=len(corpus.documents) - 1 if last is None else last,
        window=window,
        short_seq_prob=short,
        pairs=pairs,
        seed=seed,
    )
    return unpacked(rows), counts


def of_sentences(*documents: list[int]) -> SmallCorpus:
    """A corpus with sentences of these lengths."""
    offsets = np.concatenate([[0], np.cumsum(list(itertools.chain(*documents)))]).astype(np.int64)
    ends = np.concatenate([[0], np.cumsum([len(document) for document in documents])]).astype(np.int64)
    return SmallCorpus(np.zeros(offsets[-1], np.uint16), None, offsets, ends, 1)


@effort(max_examples=200, deadline=None)
@given(
    small_corpora(), st.integers(2, 60), st.sampled_from([0.0, 0.1, 0.9, 1.0]), st.booleans(), st.integers(0, 2**64 - 1)
)
def test_the_map_equals_that_of_the_oracle(
    corpus: SmallCorpus, window: int, short: float, pairs: bool, seed: int
) -> None:
    rows, counts = build(corpus, window, short, pairs, seed)
    last = len(corpus.documents) - 1
    assert rows == oracle.sample_map(
        corpus.offsets.tolist(), corpus.documents.tolist(), 0, last, window, short, pairs, seed
    )
    assert counts["samples"] == len(rows)
    assert counts["pairs"] == sum(pair for *_, pair in rows)


@effort(max_examples=200, deadline=None)
@given(small_corpora(), st.integers(2, 60), st.booleans())
def test_every_token_is_in_exactly_one_sample_of_its_document(corpus: SmallCorpus, window: int, pairs: bool) -> None:
    rows, _ = build(corpus, window, 0.3, pairs)
    covered = [(begin, begin + length) for begin, length, *_ in rows]
    assert [token for begin, end in covered for token in range(begin, end)] == list(range(len(corpus.tokens)))
    edges = corpus.offsets[corpus.documents].tolist()
    assert not [(begin, end) for begin, end in covered if any(begin < edge < end for edge in edges)]


@effort(max_examples=200, deadline=None)
@given(small_corpora(), st.integers(2, 60), st.booleans())
def test_a_pair_always_contains_the_end_of_a_sentence(corpus: SmallCorpus, window: int, pairs: bool) -> None:
    rows, _ = build(corpus, window, 0.3, pairs)
    for begin, length, target, pair in rows:
        assert pair == any(begin < offset < begin + length for offset in corpus.offsets.tolist())
        assert 2 <= target <= window


@effort(max_examples=100, deadline=None)
@given(small_corpora(), st.integers(2, 60), st.data())
def test_the_samples_of_a_document_do_not_depend_on_other_documents(
    corpus: SmallCorpus, window: int, data: st.DataObject
) -> None:
    documents = len(corpus.documents) - 1
    middle = data.draw(st.integers(0, documents))
    whole, _ = build(corpus, window, 0.5, True)
    parts = [build(corpus, window, 0.5, True, first=a, last=b)[0] for a, b in ((0, middle), (middle, documents))]
    assert whole == parts[0] + parts[1]


def test_a_sentence_longer_than_the_window_is_cut_into_windows() -> None:
    rows, counts = build(of_sentences([5, 25, 4, 3]), window=10, short=0, pairs=True)
    assert rows == [(0, 5, 10, 0), (5, 10, 10, 0), (15, 10, 10, 0), (25, 12, 10, 1)]
    assert counts["cut_sentences"] == 1


def test_a_document_of_one_sentence_is_for_the_masked_lm_only() -> None:
    rows, counts = build(of_sentences([6], [4, 4]), window=10, short=0, pairs=True)
    assert rows == [(0, 6, 10, 0), (6, 8, 10, 1)]
    assert counts["single_sentence_documents"] == 1


def test_short_targets_have_the_given_share_and_every_length() -> None:
    rows, _ = build(of_sentences(*[[60, 50]] * 20_000), window=100, short=0.3, pairs=True)
    targets = np.array([target for _, _, target, _ in rows])
    short = targets[targets < 100]
    assert abs(len(short) / len(targets) - 0.3 * 98 / 99) < 0.015
    assert set(short.tolist()) == set(range(2, 100))
    assert abs((short % 2).mean() - 0.5) < 0.03


@pytest.mark.parametrize(
    ("offsets", "documents", "message"),
    [
        ([0, 5, 3, 8], [0, 3], r"offsets\[2\] is less than the entry before it"),
        ([0, 5, 9], [0, 2], r"offsets\[1\] points outside the tokens"),
        ([-4, 5, 8], [0, 2], r"offsets\[0\] points outside the tokens"),
        ([0, 5, 8], [0, 3], r"documents\[0\] points outside the sentences"),
        ([0, 5, 8], [0, 2, 1], r"documents\[2\] is less than the entry before it"),
    ],
)
def test_a_damaged_index_is_refused(offsets: list[int], documents: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        native.build_sample_map(
            np.array(offsets),
            np.array(documents),
            tokens=8,
            first=0,
            last=len(documents) - 1,
            window=10,
            short_seq_prob=0,
            pairs=True,
            seed=1,
        )


@pytest.mark.parametrize(
    "offsets",
    [np.zeros(3, np.int32), np.zeros((3, 1), np.int64), np.zeros(6, np.int64)[::2], np.zeros(3, ">i8"), np.zeros(3)],
)
def test_an_array_of_another_dtype_or_shape_is_refused_not_converted(offsets: np.ndarray) -> None:
    with pytest.raises(TypeError):
        native.build_sample_map(
            offsets,
            np.zeros(2, np.int64),
            tokens=0,
            first=0,
            last=1,
            window=10,
            short_seq_prob=0,
            pairs=True,
            seed=1,
        )


def test_the_error_names_the_array_and_its_dtype_and_shape() -> None:
    with pytest.raises(TypeError, match=r"positions must be a C-contiguous int64 array of 1 axis, not uint8 \[3\]"):
        native.permute(np.zeros(3, np.uint8), size=3, seed=1)


# --- permutation -----------------------------------------------------------------------------------------------------

SIZES = sorted({1, 2, 3, 5, 7, 11, 97, 1009, 10007, *(2**k + d for k in range(1, 14) for d in (-1, 0, 1))})


@pytest.mark.parametrize("size", SIZES)
def test_every_epoch_holds_every_row_once(size: int) -> None:
    epochs, rows = native.permute(np.arange(2 * size, dtype=np.int64), size=size, seed=7)
    assert epochs.tolist() == [0] * size + [1] * size
    assert sorted(rows[:size]) == sorted(rows[size:]) == list(range(size))


@effort(max_examples=60, deadline=None)
@given(st.integers(1, 400), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
def test_the_order_of_an_epoch_equals_that_of_the_oracle(size: int, seed: int, epoch: int) -> None:
    positions = np.arange(epoch * size, (epoch + 1) * size, dtype=np.int64)
    epochs, rows = native.permute(positions, size=size, seed=seed)
    assert rows.tolist() == oracle.permutation(size, seed, epoch)
    assert set(epochs) == {epoch}


def test_positions_can_be_given_in_any_order() -> None:
    positions = np.random.default_rng(1).integers(0, 5000, 1000)
    _, together = native.permute(positions, size=777, seed=3)
    alone = [native.permute(positions[i : i + 1], size=777, seed=3)[1][0] for i in range(1000)]
    assert together.tolist() == alone


@pytest.mark.parametrize("size", [3, 10, 64, 100])
def test_a_row_is_equally_likely_at_every_place_of_an_epoch(size: int) -> None:
    epochs = 4000
    _, rows = native.permute(np.arange(epochs * size, dtype=np.int64), size=size, seed=11)
    counts = np.zeros((size, size))
    np.add.at(counts, (np.tile(np.arange(size), epochs), rows), 1)
    expected = epochs / size
    chi_square = ((counts - expected) ** 2 / expected).sum()
    freedom = (size - 1) ** 2
    assert abs(chi_square - freedom) < 5 * np.sqrt(2 * freedom)


def test_neighbouring_rows_are_separated() -> None:
    size = 100_000
    _, rows = native.permute(np.arange(size, dtype=np.int64), size=size, seed=1)
    assert (np.abs(np.diff(rows)) == 1).sum() < 20
    assert abs(np.corrcoef(np.arange(size), rows)[0, 1]) < 0.02


def test_negative_positions_and_empty_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="must be at least 0"):
        native.permute(np.array([-1]), size=5, seed=1)
    with pytest.raises(ValueError, match="size"):
        native.permute(np.array([0]), size=0, seed=1)


# --- blending --------------------------------------------------------------------------------------------------------

weights = st.lists(st.integers(1, 30), min_size=1, max_size=8)


@effort(max_examples=100, deadline=None)
@given(weights)
def test_a_blend_equals_that_of_the_oracle(whole: list[int]) -> None:
    count = 2 * sum(whole) + 5
    corpora, indices = native.Blending(whole).at(np.arange(count, dtype=np.int64))
    assert list(zip(corpora.tolist(), indices.tolist(), strict=True)) == oracle.blend(whole, count)


@effort(max_examples=100, deadline=None)
@given(weights)
def test_in_every_prefix_each_corpus_deviates_from_its_share_by_less_than_one_sample(whole: list[int]) -> None:
    corpora, _ = native.Blending(whole).at(np.arange(2 * sum(whole), dtype=np.int64))
    bound = 1 - Fraction(1, max(2, 2 * len(whole) - 2))
    for corpus, weight in enumerate(whole):
        got = np.cumsum(corpora == corpus).tolist()
        worst = max(abs(n - Fraction(weight * (i + 1), sum(whole))) for i, n in enumerate(got))
        assert worst <= bound


@effort(max_examples=50, deadline=None)
@given(weights)
def test_the_samples_of_a_corpus_are_in_order(whole: list[int]) -> None:
    corpora, indices = native.Blending(whole).at(np.arange(3 * sum(whole), dtype=np.int64))
    for corpus in range(len(whole)):
        here = indices[corpora == corpus]
        assert here.tolist() == list(range(len(here)))


@pytest.mark.parametrize("whole", [[], [0], [-1, 2], [2**20, 1], [1] * 1025])
def test_invalid_weights_are_refused(whole: list[int]) -> None:
    with pytest.raises(ValueError, match="blend"):
        native.Blending(whole)
