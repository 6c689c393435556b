"""The content of a sample: units, budget, n-grams, levels, replacements, and sentence-order pairs."""

from __future__ import annotations

import dataclasses

import numpy as np

from tests.native.corpora import (
    CLS,
    CONTINUATION,
    MASK,
    ORDINARY,
    PAD,
    SEP,
    SETTINGS,
    SmallCorpus,
    a_corpus,
    build_map,
    make,
    originals,
    texts,
)


def test_labels_are_the_tokens_of_the_corpus_and_other_tokens_do_not_change() -> None:
    corpus = a_corpus()
    s = dataclasses.replace(SETTINGS, sentence_order=False, max_seq_length=600)
    rows = build_map(corpus, s, 0.0)
    batch = make(corpus, s, rows)
    for ids, length, (begin, words) in zip(originals(batch), batch["lengths"], rows.tolist(), strict=True):
        tokens = corpus.tokens[begin : begin + (words & 0xFFFFFFFF)].tolist()
        assert ids[:length].tolist() == [CLS, *tokens, SEP]
        assert (ids[length:] == PAD).all()


def test_special_tokens_are_never_masked_and_never_random_replacements() -> None:
    corpus = a_corpus(documents=400)
    batch = make(corpus, dataclasses.replace(SETTINGS, mask_share=0.0, random_share=1.0), build_map(corpus, SETTINGS))
    replacements = batch["input_ids"].reshape(-1)[batch["mask_positions"]]
    assert set(replacements.tolist()) == set(ORDINARY.tolist())
    assert not np.isin(batch["labels"], [CLS, SEP, PAD, MASK]).any()
    assert len(set(batch["mask_positions"].tolist())) == len(batch["mask_positions"])


def test_of_the_chosen_tokens_80_percent_become_masks_and_10_percent_stay() -> None:
    corpus = a_corpus(documents=3000)
    batch = make(corpus, SETTINGS, build_map(corpus, SETTINGS))
    now = batch["input_ids"].reshape(-1)[batch["mask_positions"]]
    masked, kept = (now == MASK).mean(), (now == batch["labels"]).mean()
    assert abs(masked - 0.8) < 0.01
    assert abs(kept - (0.1 + 0.1 / len(ORDINARY))) < 0.01


def test_a_piece_is_masked_together_with_the_token_before_it() -> None:
    corpus = a_corpus()
    batch = make(corpus, dataclasses.replace(SETTINGS, max_seq_length=600), build_map(corpus, SETTINGS))
    s = dataclasses.replace(SETTINGS, levels=((1.0, 0, 0, 0),), max_seq_length=600)
    by_piece = make(corpus, s, build_map(corpus, SETTINGS))
    for one in (batch, by_piece):
        masked = set(one["mask_positions"].tolist())
        ids, width = originals(one), one["input_ids"].shape[1]
        for row, row_texts in enumerate(texts(one)):
            for text in row_texts:
                for column in text[1:]:
                    if CONTINUATION[ids[row, column]]:
                        assert (row * width + column in masked) == (row * width + column - 1 in masked)


def test_the_number_of_masked_tokens_is_close_to_the_budget_and_not_above() -> None:
    corpus = a_corpus(documents=500)
    s = dataclasses.replace(SETTINGS, sentence_order=False)
    batch = make(corpus, s, build_map(corpus, s))
    counts = np.bincount(batch["mask_positions"] // batch["input_ids"].shape[1], minlength=len(batch["lengths"]))
    budget = np.maximum(1, np.round(0.15 * batch["lengths"]))
    assert (counts >= 1).all()
    assert (counts[budget > 6] <= budget[budget > 6]).all()
    assert counts.sum() > 0.97 * budget.sum()


def test_a_sample_whose_only_unit_is_larger_than_the_budget_still_has_labels() -> None:
    corpus = SmallCorpus(
        np.full(9, 7, np.uint16), np.array([2] + [0] * 8, np.uint8), np.array([0, 9]), np.array([0, 1]), 1
    )
    batch = make(corpus, SETTINGS, build_map(corpus, SETTINGS))
    assert batch["labels"].tolist() == [7] * 9


def test_an_ngram_of_n_units_has_a_probability_proportional_to_one_over_n() -> None:
    n_tokens = 60
    corpus = SmallCorpus(
        np.full(n_tokens, 7, np.uint16), np.full(n_tokens, 1, np.uint8), np.array([0, n_tokens]), np.array([0, 1]), 1
    )
    # The budget is three tokens, so one n-gram of three spends it. Shorter n-grams can also touch and look like one.
    s = dataclasses.replace(SETTINGS, masked_lm_prob=0.05, max_ngrams=3)
    rows = np.repeat(build_map(corpus, s, 0.0), 6000, axis=0)
    batch = make(corpus, s, rows)
    columns = (batch["mask_positions"] % batch["input_ids"].shape[1]).reshape(-1, 3)
    together = ((columns[:, 1] == columns[:, 0] + 1) & (columns[:, 2] == columns[:, 1] + 1)).mean()
    # Three neighbours are one n-gram (probability 2/11), or 2 + 1, 1 + 2 or 1 + 1 + 1 that touch, which is rare.
    assert 2 / 11 < together < 2 / 11 + 0.06


def test_no_ngram_crosses_the_separator() -> None:
    """Each text is one unit. If n-grams could cross the separator, both units would be masked together."""
    boundaries = np.array([2, 0, 2, 0], np.uint8)
    corpus = SmallCorpus(np.array([7, 8, 9, 10], np.uint16), boundaries, np.array([0, 2, 4]), np.array([0, 2]), 1)
    s = dataclasses.replace(SETTINGS, masked_lm_prob=0.28, max_ngrams=8)  # 0.28 * 7 tokens: enough for one unit
    rows = np.repeat(build_map(corpus, s, 0.0), 200, axis=0)
    batch = make(corpus, s, rows)
    labels = batch["labels"].reshape(-1, 2).tolist()
    assert sorted(set(map(tuple, labels))) == [(7, 8), (9, 10)]
    wide = dataclasses.replace(s, masked_lm_prob=0.43)  # three tokens: not enough for both units
    assert len(make(corpus, wide, rows)["labels"]) == 2 * 200


def test_a_unit_shortened_by_truncation_is_still_masked_as_a_whole() -> None:
    """The text is one long unit, which truncation shortens at its start or end."""
    corpus = SmallCorpus(
        np.full(9, 7, np.uint16), np.array([2] + [0] * 8, np.uint8), np.array([0, 9]), np.array([0, 1]), 1
    )
    rows = np.array([[0, 9 | 4 << 32]] * 50, dtype=np.int64)
    batch = make(corpus, SETTINGS, rows)
    assert batch["lengths"].tolist() == [6] * 50
    assert (batch["mask_positions"].reshape(50, 4) % batch["input_ids"].shape[1] == [1, 2, 3, 4]).all()


def test_pairs_are_cut_after_a_sentence_and_half_of_them_are_swapped() -> None:
    corpus = a_corpus(documents=2000)
    s = dataclasses.replace(SETTINGS, max_seq_length=2000)
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


def test_all_places_of_a_cut_are_equally_likely() -> None:
    corpus = SmallCorpus(np.full(16, 7, np.uint16), None, np.arange(0, 17, 4), np.array([0, 4]), 1)
    batch = make(corpus, SETTINGS, np.repeat(build_map(corpus, SETTINGS, 0.0), 3000, axis=0))
    labels = batch["sentence_order_labels"]
    firsts = np.array([len(b if label else a) for (a, b), label in zip(texts(batch), labels, strict=True)])
    assert set(firsts.tolist()) == {4, 8, 12}
    assert all(abs((firsts == n).mean() - 1 / 3) < 0.04 for n in (4, 8, 12))


def test_truncation_shortens_the_longer_text_first() -> None:
    corpus = SmallCorpus(np.full(40, 7, np.uint16), None, np.array([0, 30, 40]), np.array([0, 2]), 1)
    rows = np.array([[0, 40 | 16 << 32 | 1 << 48], [0, 40 | 25 << 32 | 1 << 48]] * 20, dtype=np.int64)
    batch = make(corpus, SETTINGS, rows)
    lengths = {(len(a), len(b)) for a, b in texts(batch)}
    assert lengths == {(8, 8), (15, 10), (10, 15)}


def test_entities_and_phrases_are_masked_before_words() -> None:
    boundaries = np.full(60, 2, np.uint8)
    boundaries[[10, 30]], boundaries[[20, 40, 50]] = 4, 3
    corpus = SmallCorpus(np.arange(60).astype(np.uint16) % 25 + 5, boundaries, np.array([0, 60]), np.array([0, 1]), 1)
    rows = np.repeat(build_map(corpus, SETTINGS, 0.0), 50, axis=0)
    for level, columns in ((3, {11, 31}), (2, {21, 41, 51})):
        s = dataclasses.replace(SETTINGS, levels=(tuple(float(i == level) for i in range(4)),))
        batch = make(corpus, s, rows)
        by_row = batch["mask_positions"].reshape(50, -1) % batch["input_ids"].shape[1]
        assert all(columns <= set(row.tolist()) for row in by_row)
        assert by_row.shape[1] == 9  # words fill the budget: round(0.15 * 62)


def test_levels_change_with_the_epoch_and_the_last_row_holds_for_later_epochs() -> None:
    corpus = a_corpus()
    rows = build_map(corpus, SETTINGS)
    changing = dataclasses.replace(SETTINGS, levels=((1.0, 0, 0, 0), (0, 0, 0, 1.0)))
    character = dataclasses.replace(SETTINGS, levels=((1.0, 0, 0, 0),))
    entity = dataclasses.replace(SETTINGS, levels=((0, 0, 0, 1.0),))
    for epoch, same in ((0, character), (1, entity), (5, entity)):
        expected = make(corpus, same, rows, epochs=epoch)
        assert (make(corpus, changing, rows, epochs=epoch)["input_ids"] == expected["input_ids"]).all()


def test_whole_units_can_get_one_replacement_draw() -> None:
    corpus = SmallCorpus(
        np.full(60, 7, np.uint16), np.tile([2, 0, 0], 20).astype(np.uint8), np.array([0, 60]), np.array([0, 1]), 1
    )
    s = dataclasses.replace(SETTINGS, replace_whole_units=True, max_ngrams=1, random_share=0.0)
    batch = make(corpus, s, np.repeat(build_map(corpus, s, 0.0), 100, axis=0))
    now = batch["input_ids"].reshape(-1)[batch["mask_positions"]].reshape(-1, 3)
    assert {tuple(unit) for unit in now.tolist()} == {(MASK,) * 3, (7,) * 3}
