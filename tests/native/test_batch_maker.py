"""The native batch maker: equal to the oracle, reproducible, with padding or packing, and errors for wrong input."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as effort
from hypothesis import strategies as st

import native
from tests.native import oracle
from tests.native.corpora import (
    SEP,
    SETTINGS,
    VOCABULARY,
    SmallCorpus,
    a_corpus,
    build_map,
    make,
    maker,
    settings,
    small_corpora,
    unpacked,
)


@effort(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(small_corpora(), min_size=1, max_size=3), settings(), st.randoms(use_true_random=False), st.data())
def test_a_batch_equals_that_of_the_oracle(
    corpora: list[SmallCorpus], s: oracle.Settings, rng: Any, data: st.DataObject
) -> None:
    maps = [build_map(corpus, s, 0.3) for corpus in corpora]
    choices = [(corpus, row) for corpus, rows in enumerate(maps) for row in rows]
    chosen = [rng.choice(choices) for _ in range(rng.randrange(1, 9))] if choices else []
    corpus_of = np.array([corpus for corpus, _ in chosen], dtype=np.int32)
    rows = np.array([row for _, row in chosen], dtype=np.int64).reshape(-1, 2)
    epochs = np.array([rng.randrange(5) for _ in chosen], dtype=np.int64)
    samples = np.array([rng.randrange(2**40) for _ in chosen], dtype=np.int64)
    batch = maker(corpora, s).make(corpus_of, rows, epochs, samples)
    requests = list(zip(corpus_of.tolist(), unpacked(rows), epochs.tolist(), samples.tolist(), strict=True))
    expected = oracle.make_batch([corpus.for_oracle() for corpus in corpora], requests, s)
    assert set(batch) == set(expected)
    for name, values in expected.items():
        assert batch[name].dtype == np.int64
        assert batch[name].tolist() == values, name


def test_a_sample_depends_only_on_its_keys() -> None:
    corpus = a_corpus()
    rows = build_map(corpus, SETTINGS)
    order = np.random.default_rng(3).permutation(len(rows))
    s = dataclasses.replace(SETTINGS, pad_multiple=64)
    together = make(corpus, s, rows)
    shuffled = make(corpus, s, rows[order], samples=order)
    assert (shuffled["input_ids"] == together["input_ids"][order]).all()
    alone = [make(corpus, s, rows[i : i + 1], samples=np.array([i]))["input_ids"][0] for i in range(len(rows))]
    assert (np.array(alone) == together["input_ids"]).all()


def test_seed_epoch_and_sample_each_change_the_masks() -> None:
    corpus = a_corpus()
    rows = build_map(corpus, SETTINGS)[:20]
    first = make(corpus, SETTINGS, rows)["mask_positions"].tolist()
    assert make(corpus, SETTINGS, rows)["mask_positions"].tolist() == first
    assert make(corpus, SETTINGS, rows, epochs=1)["mask_positions"].tolist() != first
    assert make(corpus, SETTINGS, rows, samples=np.arange(1, 21))["mask_positions"].tolist() != first
    other = dataclasses.replace(corpus, seed=2)
    assert make(other, SETTINGS, rows)["mask_positions"].tolist() != first


def test_packed_rows_hold_the_same_samples_as_padded_rows() -> None:
    corpus = a_corpus(documents=100)
    s = dataclasses.replace(SETTINGS, max_seq_length=256, pad_multiple=256)
    rows = build_map(corpus, dataclasses.replace(s, max_seq_length=64), 0.5)
    plain, packed = make(corpus, s, rows), make(corpus, dataclasses.replace(s, pack=True), rows)
    assert len(packed["lengths"]) < len(plain["lengths"]) / 3
    flat, segments = packed["input_ids"].reshape(-1), packed["segment_ids"]
    for i, (start, length) in enumerate(zip(packed["cls_positions"], plain["lengths"], strict=True)):
        here = slice(start, start + length)
        assert (flat[here] == plain["input_ids"][i, :length]).all()
        assert (packed["position_ids"].reshape(-1)[here] == np.arange(length)).all()
        assert len(set(segments.reshape(-1)[here].tolist())) == 1
    for row, length in zip(segments, packed["lengths"], strict=True):
        assert (row[length:] == 0).all()
        steps = np.diff(row[:length])
        assert row[0] == 1
        assert set(steps.tolist()) <= {0, 1}
    assert (packed["labels"] == plain["labels"]).all()


@pytest.mark.parametrize(("multiple", "width"), [(1, 13), (8, 16), (64, 64), (60, 60), (4000, 64)])
def test_rows_are_padded_to_the_longest_row_a_multiple_or_the_full_length(multiple: int, width: int) -> None:
    corpus = SmallCorpus(np.full(11, 7, np.uint16), None, np.array([0, 11]), np.array([0, 1]), 1)
    batch = make(corpus, dataclasses.replace(SETTINGS, pad_multiple=multiple), build_map(corpus, SETTINGS, 0.0))
    assert batch["input_ids"].shape == (1, width)


def test_the_arrays_are_views_of_the_given_block_and_keep_it_alive() -> None:
    corpus = a_corpus()
    rows = build_map(corpus, SETTINGS)
    fresh = make(corpus, SETTINGS, rows)
    block = np.full(maker([corpus], SETTINGS).capacity(len(rows)), -7, dtype=np.int64)
    batch = make(corpus, SETTINGS, rows, out=block)
    assert all(np.shares_memory(array, block) for array in batch.values() if array.size)
    del block
    assert all((batch[name] == fresh[name]).all() for name in fresh)
    with pytest.raises(ValueError, match=r"out has 5 entries; this batch needs capacity\(\)"):
        make(corpus, SETTINGS, rows, out=np.zeros(5, np.int64))
    with pytest.raises(TypeError, match="out must be a"):
        make(corpus, SETTINGS, rows, out=np.zeros(50, np.int32))
    frozen = np.zeros(10**6, np.int64)
    frozen.flags.writeable = False
    with pytest.raises(TypeError, match="writable"):
        make(corpus, SETTINGS, rows, out=frozen)


def test_several_threads_can_use_one_maker() -> None:
    corpus = a_corpus(documents=300)
    rows = build_map(corpus, SETTINGS)
    one = maker([corpus], SETTINGS)
    keys = np.zeros(len(rows), np.int32), np.zeros(len(rows), np.int64), np.arange(len(rows))
    expected = one.make(keys[0], rows, keys[1], keys[2])["input_ids"]
    results: list[np.ndarray] = []
    threads = [
        threading.Thread(target=lambda: results.append(one.make(keys[0], rows, keys[1], keys[2])["input_ids"]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert all((result == expected).all() for result in results)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((-1, 5, 9, 0), "has 5 tokens from token -1"),
        ((8, 5, 9, 0), "corpus 0 has 12"),
        ((0, 0, 9, 0), "has 0 tokens from token 0"),
        ((2**62, 2**31 - 1, 9, 0), "tokens from token 4611686018427387904"),
        ((0, 12, 1, 1), "build the sample map for this length"),
        ((0, 12, 0, 0), "build the sample map for this length"),
        ((0, 12, 9, 7), "build the sample map for this length"),
        ((0, 3, 9, 1), "the sample map is not of this corpus"),
    ],
)
def test_a_row_that_does_not_fit_the_corpus_is_refused(row: tuple[int, int, int, int], message: str) -> None:
    corpus = SmallCorpus(np.full(12, 7, np.uint16), None, np.array([0, 6, 12]), np.array([0, 2]), 1)
    begin, length, target, pair = row
    with pytest.raises(ValueError, match=message):
        make(corpus, SETTINGS, np.array([[begin, length | target << 32 | pair << 48]], dtype=np.int64))


def test_a_row_longer_than_max_seq_length_is_refused() -> None:
    corpus = a_corpus()
    rows = build_map(corpus, dataclasses.replace(SETTINGS, max_seq_length=100), 0.0)
    with pytest.raises(ValueError, match="max_seq_length 64"):
        make(corpus, SETTINGS, rows)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_a_token_outside_the_vocabulary_is_refused(dtype: type) -> None:
    corpus = SmallCorpus(np.full(12, 7, dtype), None, np.array([0, 6, 12]), np.array([0, 2]), 1)
    rows = build_map(corpus, SETTINGS, 0.0)
    corpus.tokens[4] = VOCABULARY
    with pytest.raises(ValueError, match="token 4 of a corpus is 40, outside the vocabulary of 40"):
        make(corpus, SETTINGS, rows)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"tokens": np.zeros(12, np.int64)}, TypeError, "tokens .* int64"),
        ({"boundaries": np.zeros(12, np.int8)}, TypeError, "boundaries must be a C-contiguous uint8"),
        ({"boundaries": np.zeros(11, np.uint8)}, ValueError, "11 boundary bytes for 12 tokens"),
        ({"offsets": np.array([0, 6, 12], np.int32)}, TypeError, "offsets must be"),
        ({"offsets": np.array([0, 6, 13])}, ValueError, "point outside its tokens"),
        ({"offsets": np.zeros(0, np.int64)}, ValueError, "point outside its tokens"),
    ],
)
def test_a_corpus_of_wrong_arrays_is_refused(change: dict[str, Any], error: type[Exception], message: str) -> None:
    corpus = SmallCorpus(np.full(12, 7, np.uint16), None, np.array([0, 6, 12]), np.array([0, 2]), 1)
    with pytest.raises(error, match=message):
        maker([dataclasses.replace(corpus, **change)], SETTINGS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask_id": 40}, "mask_id is 40, outside the vocabulary"),
        ({"pad_id": -1}, "pad_id is -1"),
        ({"ordinary_ids": []}, "ordinary_ids is empty"),
        ({"ordinary_ids": [5, SEP]}, "holds the special token 2"),
        ({"ordinary_ids": [5, 99]}, "outside the vocabulary"),
        ({"continuation": [False] * 39}, "continuation must have one entry for every token"),
        ({"max_seq_length": 4}, "max_seq_length must be between 5 and 65535, not 4"),
        ({"max_ngrams": 0}, "max_ngrams must be between"),
        ({"pad_multiple": 0}, "pad_multiple must be between"),
        ({"masked_lm_prob": 1.5}, "masked_lm_prob must be between 0 and 1"),
        ({"masked_lm_prob": float("nan")}, "masked_lm_prob must be between 0 and 1"),
        ({"mask_share": 0.8, "random_share": 0.3}, "mask_share [+] random_share"),
        ({"levels": [(0.5, 0.4, 0, 0)]}, "row 0 of levels adds up to 0.9"),
        ({"levels": np.zeros((0, 4))}, "levels must have one row"),
        ({"levels": [(0.5, 0.5)]}, "four columns"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        maker([a_corpus()], dataclasses.replace(SETTINGS, **change))


def test_keys_of_wrong_length_or_value_are_refused() -> None:
    corpus = a_corpus()
    rows = build_map(corpus, SETTINGS)[:3]
    with pytest.raises(ValueError, match="must all have the same n"):
        native.BatchMaker.make(
            maker([corpus], SETTINGS), np.zeros(2, np.int32), rows, np.zeros(3, np.int64), np.zeros(3, np.int64)
        )
    with pytest.raises(ValueError, match="epoch -1"):
        make(corpus, SETTINGS, rows, epochs=-1)
    with pytest.raises(ValueError, match="of corpus 3; there are 1"):
        maker([corpus], SETTINGS).make(np.full(3, 3, np.int32), rows, np.zeros(3, np.int64), np.zeros(3, np.int64))
