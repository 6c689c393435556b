"""Packed rows hold every text once, with its positions and its first token in the right place."""

import numpy as np

from benchmarks.graph.exported import TOP, top_of
from benchmarks.graph.packing import batches_of, packed

ROWS = [[1, *range(10, 10 + size), 2] for size in (3, 9, 1, 6, 12, 2)]


def test_every_text_lies_whole_in_one_row() -> None:
    batch = packed(ROWS, [5, 0, 1, 3, 4], 16)
    ids, positions, segments, first = (
        batch.inputs[name] for name in ("input_ids", "position_ids", "segment_ids", "cls_positions")
    )
    assert sorted(batch.texts) == [0, 1, 3, 4, 5]
    for text, place in zip(batch.texts, first, strict=True):
        row, start = divmod(place, ids.shape[1])
        span = slice(start, start + len(ROWS[text]))
        assert ids[row, span].tolist() == ROWS[text]
        assert positions[row, span].tolist() == list(range(len(ROWS[text])))
        assert (segments[row] == segments[row, start]).nonzero()[0].tolist() == list(range(*span.indices(99)))
    assert (segments > 0).sum() == sum(len(ROWS[text]) for text in batch.texts)


def test_the_services_batches_hold_every_text_once() -> None:
    rows = ROWS * 40
    assert sorted(text for batch in batches_of(rows, 16) for text in batch.texts) == list(range(len(rows)))


def test_the_top_of_all_logits_is_that_of_a_full_sort() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 3, 500)).astype(np.float32)
    exponents = np.exp(logits[1, 2])
    found = top_of(logits, np.array([5]))
    assert np.allclose(found[0], np.sort(exponents / exponents.sum())[::-1][:TOP])
