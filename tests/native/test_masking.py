"""The native batch maker: equal to the plain one, and right in what masked-LM pretraining relies on."""

from __future__ import annotations

import dataclasses
import itertools
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
    CLS,
    CONTINUATION,
    MASK,
    ORDINARY,
    PAD,
    SEP,
    VOCABULARY,
    SmallCorpus,
    build_map,
    maker,
    settings,
    small_corpora,
    unpacked,
)

Arrays = dict[str, np.ndarray]
PLAIN = oracle.Settings(VOCABULARY, CLS, SEP, MASK, PAD, CONTINUATION.tolist(), ORDINARY.tolist(), max_seq_length=64)


def make(
    corpus: SmallCorpus, s: oracle.Settings, rows: np.ndarray, epochs: Any = 0, samples: Any = None, **more: Any
) -> Arrays:
    """A batch of these rows of one corpus."""
    n = len(rows)
    epochs = np.broadcast_to(np.int64(epochs), n).copy()
    samples = np.arange(n, dtype=np.int64) if samples is None else samples
    return maker([corpus], s).make(np.zeros(n, np.int32), rows, epochs, samples, **more)


def a_corpus(seed: int = 1, documents: int = 60) -> SmallCorpus:
    """Documents of two to nine sentences of 2 to 30 tokens, with unit boundaries and `##` pieces inside units."""
    rng = np.random.default_rng(seed)
    sentences = rng.integers(2, 10, documents)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(2, 31, sentences.sum()))]).astype(np.int64)
    tokens = rng.integers(5, 30, offsets[-1]).astype(np.uint16)
    heads = rng.choice([0, 1, 2, 2, 3, 4], len(tokens)).astype(np.uint8)
    heads[offsets[:-1]] = 2
    pieces = (heads == 0) & (rng.random(len(tokens)) < 0.5)
    tokens[pieces] = rng.integers(30, VOCABULARY, pieces.sum())
    ends = np.concatenate([[0], np.cumsum(sentences)]).astype(np.int64)
    return SmallCorpus(tokens, heads, offsets, ends, seed)


def originals(batch: Arrays) -> np.ndarray:
    """input_ids with the labels put back."""
    ids = batch["input_ids"].copy()
    ids.reshape(-1)[batch["mask_positions"]] = batch["labels"]
    return ids


def texts(batch: Arrays) -> list[list[list[int]]]:
    """For each row its texts, each a list of columns, special tokens left out."""
    found = []
    for ids, length in zip(originals(batch), batch["lengths"], strict=True):
        ends = [column for column in range(length) if ids[column] == SEP]
        found.append([list(range(a + 1, b)) for a, b in itertools.pairwise([0, *ends])])
    return found


@effort(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(small_corpora(), min_size=1, max_size=3), settings(), st.randoms(use_true_random=False), st.data())
def test_a_batch_equals_the_plain_one(
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
    expected = oracle.make_batch([corpus.plain() for corpus in corpora], requests, s)
    assert set(batch) == set(expected)
    for name, values in expected.items():
        assert batch[name].dtype == np.int64
        assert batch[name].tolist() == values, name


def test_a_sample_depends_on_nothing_but_its_keys() -> None:
    corpus = a_corpus()
    rows = build_map(corpus, PLAIN)
    order = np.random.default_rng(3).permutation(len(rows))
    s = dataclasses.replace(PLAIN, pad_multiple=64)
    together = make(corpus, s, rows)
    shuffled = make(corpus, s, rows[order], samples=order)
    assert (shuffled["input_ids"] == together["input_ids"][order]).all()
    alone = [make(corpus, s, rows[i : i + 1], samples=np.array([i]))["input_ids"][0] for i in range(len(rows))]
    assert (np.array(alone) == together["input_ids"]).all()


def test_seed_epoch_and_sample_each_change_the_masks() -> None:
    corpus = a_corpus()
    rows = build_map(corpus, PLAIN)[:20]
    first = make(corpus, PLAIN, rows)["mask_positions"].tolist()
    assert make(corpus, PLAIN, rows)["mask_positions"].tolist() == first
    assert make(corpus, PLAIN, rows, epochs=1)["mask_positions"].tolist() != first
    assert make(corpus, PLAIN, rows, samples=np.arange(1, 21))["mask_positions"].tolist() != first
    other = dataclasses.replace(corpus, seed=2)
    assert make(other, PLAIN, rows)["mask_positions"].tolist() != first


def test_labels_are_the_tokens_of_the_corpus_and_the_rest_is_untouched() -> None:
    corpus = a_corpus()
    s = dataclasses.replace(PLAIN, sentence_order=False, max_seq_length=600)
    rows = build_map(corpus, s, 0.0)
    batch = make(corpus, s, rows)
    for ids, length, (begin, words) in zip(originals(batch), batch["lengths"], rows.tolist(), strict=True):
        tokens = corpus.tokens[begin : begin + (words & 0xFFFFFFFF)].tolist()
        assert ids[:length].tolist() == [CLS, *tokens, SEP]
        assert (ids[length:] == PAD).all()


def test_special_tokens_are_never_masked_and_never_put_in() -> None:
    corpus = a_corpus(documents=400)
    batch = make(corpus, dataclasses.replace(PLAIN, mask_share=0.0, random_share=1.0), build_map(corpus, PLAIN))
    put_in = batch["input_ids"].reshape(-1)[batch["mask_positions"]]
    assert set(put_in.tolist()) == set(ORDINARY.tolist())
    assert not np.isin(batch["labels"], [CLS, SEP, PAD, MASK]).any()
    assert len(set(batch["mask_positions"].tolist())) == len(batch["mask_positions"])


def test_eighty_ten_ten() -> None:
    corpus = a_corpus(documents=3000)
    batch = make(corpus, PLAIN, build_map(corpus, PLAIN))
    now = batch["input_ids"].reshape(-1)[batch["mask_positions"]]
    masked, kept = (now == MASK).mean(), (now == batch["labels"]).mean()
    assert abs(masked - 0.8) < 0.01
    assert abs(kept - (0.1 + 0.1 / len(ORDINARY))) < 0.01


def test_a_unit_is_masked_whole_and_begins_with_its_head() -> None:
    corpus = a_corpus()
    batch = make(corpus, dataclasses.replace(PLAIN, max_seq_length=600), build_map(corpus, PLAIN))
    s = dataclasses.replace(PLAIN, levels=((1.0, 0, 0, 0),), max_seq_length=600)
    by_piece = make(corpus, s, build_map(corpus, PLAIN))
    for one in (batch, by_piece):
        masked = set(one["mask_positions"].tolist())
        ids, width = originals(one), one["input_ids"].shape[1]
        for row, row_texts in enumerate(texts(one)):
            for text in row_texts:
                for column in text[1:]:
                    if CONTINUATION[ids[row, column]]:
                        assert (row * width + column in masked) == (row * width + column - 1 in masked)


def test_budget_is_kept_and_mostly_used() -> None:
    corpus = a_corpus(documents=500)
    s = dataclasses.replace(PLAIN, sentence_order=False)
    batch = make(corpus, s, build_map(corpus, s))
    counts = np.bincount(batch["mask_positions"] // batch["input_ids"].shape[1], minlength=len(batch["lengths"]))
    budget = np.maximum(1, np.round(0.15 * batch["lengths"]))
    assert (counts >= 1).all()
    assert (counts[budget > 6] <= budget[budget > 6]).all()
    assert counts.sum() > 0.97 * budget.sum()


def test_a_sample_whose_only_unit_is_beyond_the_budget_still_has_labels() -> None:
    corpus = SmallCorpus(
        np.full(9, 7, np.uint16), np.array([2] + [0] * 8, np.uint8), np.array([0, 9]), np.array([0, 1]), 1
    )
    batch = make(corpus, PLAIN, build_map(corpus, PLAIN))
    assert batch["labels"].tolist() == [7] * 9


def test_ngram_lengths_are_as_one_over_n() -> None:
    n_tokens = 60
    corpus = SmallCorpus(
        np.full(n_tokens, 7, np.uint16), np.full(n_tokens, 1, np.uint8), np.array([0, n_tokens]), np.array([0, 1]), 1
    )
    # The budget is three tokens, so that the first n-gram always fits; its length is that of the sample's longest run
    # only when no other touches it, so single draws are told apart by budgets of one n-gram.
    s = dataclasses.replace(PLAIN, masked_lm_prob=0.05, max_ngrams=3)
    rows = np.repeat(build_map(corpus, s, 0.0), 6000, axis=0)
    batch = make(corpus, s, rows)
    columns = (batch["mask_positions"] % batch["input_ids"].shape[1]).reshape(-1, 3)
    together = ((columns[:, 1] == columns[:, 0] + 1) & (columns[:, 2] == columns[:, 1] + 1)).mean()
    # Three in a row: drawn so (2/11), or 2 + 1, 1 + 2 and 1 + 1 + 1 that happen to touch, each with few chances.
    assert 2 / 11 < together < 2 / 11 + 0.06


def test_no_span_crosses_the_separator() -> None:
    """Two texts of one unit each, n-grams of two: were spans to cross, both would be taken at once."""
    boundaries = np.array([2, 0, 2, 0], np.uint8)
    corpus = SmallCorpus(np.array([7, 8, 9, 10], np.uint16), boundaries, np.array([0, 2, 4]), np.array([0, 2]), 1)
    s = dataclasses.replace(PLAIN, masked_lm_prob=0.28, max_ngrams=8)  # 0.28 * 7 tokens: room for one unit
    rows = np.repeat(build_map(corpus, s, 0.0), 200, axis=0)
    batch = make(corpus, s, rows)
    labels = batch["labels"].reshape(-1, 2).tolist()
    assert sorted(set(map(tuple, labels))) == [(7, 8), (9, 10)]
    wide = dataclasses.replace(s, masked_lm_prob=0.43)  # three tokens: a crossing span would hold one of the other unit
    assert len(make(corpus, wide, rows)["labels"]) == 2 * 200


def test_what_truncation_leaves_of_a_unit_is_a_unit_of_its_own() -> None:
    """One long unit, cut in front or behind: its rest can be masked, whole."""
    corpus = SmallCorpus(
        np.full(9, 7, np.uint16), np.array([2] + [0] * 8, np.uint8), np.array([0, 9]), np.array([0, 1]), 1
    )
    rows = np.array([[0, 9 | 4 << 32]] * 50, dtype=np.int64)
    batch = make(corpus, PLAIN, rows)
    assert batch["lengths"].tolist() == [6] * 50
    assert (batch["mask_positions"].reshape(50, 4) % batch["input_ids"].shape[1] == [1, 2, 3, 4]).all()


def test_pairs_are_cut_where_a_sentence_ends_and_swapped_half_of_the_time() -> None:
    corpus = a_corpus(documents=2000)
    s = dataclasses.replace(PLAIN, max_seq_length=2000)
    rows = build_map(corpus, s, 0.0)
    corpus.tokens[:] = 5 + np.repeat(np.arange(len(corpus.offsets) - 1) % 25, np.diff(corpus.offsets))
    batch = make(corpus, s, rows)
    ids = originals(batch)
    assert abs(batch["sentence_order_labels"].mean() - 0.5) < 0.04
    for row, ((first, second), label) in enumerate(zip(texts(batch), batch["sentence_order_labels"], strict=True)):
        a, b = ids[row, first].tolist(), ids[row, second].tolist()
        earlier, later = (b, a) if label else (a, b)
        begin, words = rows[row].tolist()
        assert earlier + later == corpus.tokens[begin : begin + (words & 0xFFFFFFFF)].tolist()
        assert begin + len(earlier) in corpus.offsets
        assert batch["token_type_ids"][row].tolist() == [0] * (len(a) + 2) + [1] * (len(b) + 1) + [0] * (
            ids.shape[1] - len(a) - len(b) - 3
        )


def test_every_place_of_a_cut_is_equally_likely() -> None:
    corpus = SmallCorpus(np.full(16, 7, np.uint16), None, np.arange(0, 17, 4), np.array([0, 4]), 1)
    batch = make(corpus, PLAIN, np.repeat(build_map(corpus, PLAIN, 0.0), 3000, axis=0))
    labels = batch["sentence_order_labels"]
    firsts = np.array([len(b if label else a) for (a, b), label in zip(texts(batch), labels, strict=True)])
    assert set(firsts.tolist()) == {4, 8, 12}
    assert all(abs((firsts == n).mean() - 1 / 3) < 0.04 for n in (4, 8, 12))


def test_truncation_takes_from_the_longer_text_first() -> None:
    corpus = SmallCorpus(np.full(40, 7, np.uint16), None, np.array([0, 30, 40]), np.array([0, 2]), 1)
    rows = np.array([[0, 40 | 16 << 32 | 1 << 48], [0, 40 | 25 << 32 | 1 << 48]] * 20, dtype=np.int64)
    batch = make(corpus, PLAIN, rows)
    lengths = {(len(a), len(b)) for a, b in texts(batch)}
    assert lengths == {(8, 8), (15, 10), (10, 15)}


def test_entities_and_phrases_are_taken_before_words() -> None:
    boundaries = np.full(60, 2, np.uint8)
    boundaries[[10, 30]], boundaries[[20, 40, 50]] = 4, 3
    corpus = SmallCorpus(np.arange(60).astype(np.uint16) % 25 + 5, boundaries, np.array([0, 60]), np.array([0, 1]), 1)
    rows = np.repeat(build_map(corpus, PLAIN, 0.0), 50, axis=0)
    for level, columns in ((3, {11, 31}), (2, {21, 41, 51})):
        s = dataclasses.replace(PLAIN, levels=(tuple(float(i == level) for i in range(4)),))
        batch = make(corpus, s, rows)
        by_row = batch["mask_positions"].reshape(50, -1) % batch["input_ids"].shape[1]
        assert all(columns <= set(row.tolist()) for row in by_row)
        assert by_row.shape[1] == 9  # words fill the budget: round(0.15 * 62)


def test_levels_change_with_the_epoch_and_the_last_row_goes_on() -> None:
    corpus = a_corpus()
    rows = build_map(corpus, PLAIN)
    changing = dataclasses.replace(PLAIN, levels=((1.0, 0, 0, 0), (0, 0, 0, 1.0)))
    character = dataclasses.replace(PLAIN, levels=((1.0, 0, 0, 0),))
    entity = dataclasses.replace(PLAIN, levels=((0, 0, 0, 1.0),))
    for epoch, same in ((0, character), (1, entity), (5, entity)):
        expected = make(corpus, same, rows, epochs=epoch)
        assert (make(corpus, changing, rows, epochs=epoch)["input_ids"] == expected["input_ids"]).all()


def test_one_fate_for_a_whole_unit() -> None:
    corpus = SmallCorpus(
        np.full(60, 7, np.uint16), np.tile([2, 0, 0], 20).astype(np.uint8), np.array([0, 60]), np.array([0, 1]), 1
    )
    s = dataclasses.replace(PLAIN, replace_whole_units=True, max_ngrams=1, random_share=0.0)
    batch = make(corpus, s, np.repeat(build_map(corpus, s, 0.0), 100, axis=0))
    now = batch["input_ids"].reshape(-1)[batch["mask_positions"]].reshape(-1, 3)
    assert {tuple(unit) for unit in now.tolist()} == {(MASK,) * 3, (7,) * 3}


def test_packed_rows_hold_the_same_samples() -> None:
    corpus = a_corpus(documents=100)
    s = dataclasses.replace(PLAIN, max_seq_length=256, pad_multiple=256)
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
def test_padding_goes_to_the_longest_row_a_multiple_or_the_full_length(multiple: int, width: int) -> None:
    corpus = SmallCorpus(np.full(11, 7, np.uint16), None, np.array([0, 11]), np.array([0, 1]), 1)
    batch = make(corpus, dataclasses.replace(PLAIN, pad_multiple=multiple), build_map(corpus, PLAIN, 0.0))
    assert batch["input_ids"].shape == (1, width)


def test_a_block_given_is_filled_and_stays_alive() -> None:
    corpus = a_corpus()
    rows = build_map(corpus, PLAIN)
    fresh = make(corpus, PLAIN, rows)
    block = np.full(maker([corpus], PLAIN).capacity(len(rows)), -7, dtype=np.int64)
    batch = make(corpus, PLAIN, rows, out=block)
    assert all(np.shares_memory(array, block) for array in batch.values() if array.size)
    del block
    assert all((batch[name] == fresh[name]).all() for name in fresh)
    with pytest.raises(ValueError, match=r"out has 5 entries; this batch needs capacity\(\)"):
        make(corpus, PLAIN, rows, out=np.zeros(5, np.int64))
    with pytest.raises(TypeError, match="out must be a"):
        make(corpus, PLAIN, rows, out=np.zeros(50, np.int32))
    frozen = np.zeros(10**6, np.int64)
    frozen.flags.writeable = False
    with pytest.raises(TypeError, match="writable"):
        make(corpus, PLAIN, rows, out=frozen)


def test_one_maker_serves_several_threads() -> None:
    corpus = a_corpus(documents=300)
    rows = build_map(corpus, PLAIN)
    one = maker([corpus], PLAIN)
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


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((-1, 5, 9, 0), "spans tokens -1"),
        ((8, 5, 9, 0), "corpus 0 has 12"),
        ((0, 0, 9, 0), "spans tokens 0 and the next 0"),
        ((2**62, 2**31 - 1, 9, 0), "spans tokens"),
        ((0, 12, 1, 1), "build the sample map for this length"),
        ((0, 12, 0, 0), "build the sample map for this length"),
        ((0, 12, 9, 7), "build the sample map for this length"),
        ((0, 3, 9, 1), "the sample map is not of this corpus"),
    ],
)
def test_a_row_that_is_not_of_the_corpus_is_refused(row: tuple[int, int, int, int], message: str) -> None:
    corpus = SmallCorpus(np.full(12, 7, np.uint16), None, np.array([0, 6, 12]), np.array([0, 2]), 1)
    begin, length, target, pair = row
    with pytest.raises(ValueError, match=message):
        make(corpus, PLAIN, np.array([[begin, length | target << 32 | pair << 48]], dtype=np.int64))


def test_a_row_longer_than_the_batch_allows_is_refused() -> None:
    corpus = a_corpus()
    rows = build_map(corpus, dataclasses.replace(PLAIN, max_seq_length=100), 0.0)
    with pytest.raises(ValueError, match="max_seq_length 64"):
        make(corpus, PLAIN, rows)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_a_token_outside_the_vocabulary_is_refused(dtype: type) -> None:
    corpus = SmallCorpus(np.full(12, 7, dtype), None, np.array([0, 6, 12]), np.array([0, 2]), 1)
    rows = build_map(corpus, PLAIN, 0.0)
    corpus.tokens[4] = VOCABULARY
    with pytest.raises(ValueError, match="token 4 of a corpus is 40, outside the vocabulary of 40"):
        make(corpus, PLAIN, rows)


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
def test_a_corpus_of_other_arrays_is_refused(change: dict[str, Any], error: type[Exception], message: str) -> None:
    corpus = SmallCorpus(np.full(12, 7, np.uint16), None, np.array([0, 6, 12]), np.array([0, 2]), 1)
    with pytest.raises(error, match=message):
        maker([dataclasses.replace(corpus, **change)], PLAIN)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask_id": 40}, "mask_id is 40, outside the vocabulary"),
        ({"pad_id": -1}, "pad_id is -1"),
        ({"ordinary_ids": []}, "ordinary_ids is empty"),
        ({"ordinary_ids": [5, SEP]}, "holds the special token 2"),
        ({"ordinary_ids": [5, 99]}, "outside the vocabulary"),
        ({"continuation": [False] * 39}, "continuation has one entry for every token"),
        ({"max_seq_length": 4}, "max_seq_length lies between 5 and 65535, not at 4"),
        ({"max_ngrams": 0}, "max_ngrams lies between"),
        ({"pad_multiple": 0}, "pad_multiple lies between"),
        ({"masked_lm_prob": 1.5}, "masked_lm_prob lies between 0 and 1"),
        ({"masked_lm_prob": float("nan")}, "masked_lm_prob lies between 0 and 1"),
        ({"mask_share": 0.8, "random_share": 0.3}, "mask_share [+] random_share"),
        ({"levels": [(0.5, 0.4, 0, 0)]}, "row 0 of levels adds up to 0.9"),
        ({"levels": np.zeros((0, 4))}, "levels has one row"),
        ({"levels": [(0.5, 0.5)]}, "four columns"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        maker([a_corpus()], dataclasses.replace(PLAIN, **change))


def test_keys_of_other_lengths_are_refused() -> None:
    corpus = a_corpus()
    rows = build_map(corpus, PLAIN)[:3]
    with pytest.raises(ValueError, match="must have one n"):
        native.BatchMaker.make(
            maker([corpus], PLAIN), np.zeros(2, np.int32), rows, np.zeros(3, np.int64), np.zeros(3, np.int64)
        )
    with pytest.raises(ValueError, match="epoch -1"):
        make(corpus, PLAIN, rows, epochs=-1)
    with pytest.raises(ValueError, match="of corpus 3; there are 1"):
        maker([corpus], PLAIN).make(np.full(3, 3, np.int32), rows, np.zeros(3, np.int64), np.zeros(3, np.int64))
