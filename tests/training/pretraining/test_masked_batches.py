"""What stands at a position of a run depends on the position only."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest

from training.corpus.indexed import IndexedCorpus
from training.pretraining.masked_batches import BatchSettings, MaskedBatch, MaskedBatches, MaskingVocabulary
from training.pretraining.sample_order import MapSettings, Source, open_source

TOKENS = [
    "[PAD]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "[UNK]",
    *"甲乙丙丁戊己庚辛壬癸子丑寅卯辰巳午未申酉",
    "##a",
    "##b",
    "[unused1]",
    "##",
]
VOCABULARY = MaskingVocabulary.of(TOKENS)
SETTINGS = BatchSettings(max_seq_length=64, pad_multiple=64)


def a_source(seed: int, documents: int = 120) -> Source:
    rng = np.random.default_rng(seed)
    sentences = rng.integers(1, 8, documents)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(2, 30, sentences.sum()))]).astype(np.int64)
    ends = np.concatenate([[0], np.cumsum(sentences)]).astype(np.int64)
    tokens = rng.integers(5, 27, offsets[-1]).astype(np.uint16)
    corpus = IndexedCorpus(Path(f"data/{seed}"), tokens, None, offsets, ends)
    return open_source(corpus, range(documents), MapSettings(max_seq_length=64), None)


SOURCES = [a_source(1), a_source(2)]


def batches(**more: object) -> MaskedBatches:
    return MaskedBatches(SOURCES, VOCABULARY, SETTINGS, **{"batch_size": 12, "weights": [0.7, 0.3], **more})  # type: ignore[arg-type]


def equal(one: MaskedBatch, other: MaskedBatch) -> bool:
    return all(
        np.array_equal(getattr(one, field.name), getattr(other, field.name))
        for field in dataclasses.fields(MaskedBatch)
    )


def test_the_vocabulary_knows_pieces_and_ordinary_tokens() -> None:
    assert [TOKENS[i] for i in np.flatnonzero(VOCABULARY.continuation)] == ["##a", "##b"]
    assert [TOKENS[i] for i in VOCABULARY.ordinary] == [*TOKENS[5:25], "##"]
    with pytest.raises(ValueError, match=r"lacks \[CLS\], \[MASK\]"):
        MaskingVocabulary.of(["[PAD]", "[SEP]", "x"])


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("ahead", [1, 7])
def test_threads_and_batches_ahead_change_nothing(threads: int, ahead: int) -> None:
    plain = [batches().at(position) for position in range(0, 240, 12)]
    made = list(batches().iterate(stop=240, threads=threads, ahead=ahead))
    assert len(made) == 20
    assert all(equal(one, other) for one, other in zip(plain, made, strict=True))


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_ranks_share_the_batch_of_one(ranks: int) -> None:
    whole = batches().at(36)
    parts = [batches(rank=rank, ranks=ranks).at(36) for rank in range(ranks)]
    assert np.concatenate([part.input_ids for part in parts]).tolist() == whole.input_ids.tolist()
    assert np.concatenate([part.labels for part in parts]).tolist() == whole.labels.tolist()
    assert {part.next_position for part in parts} == {48}


def test_batch_size_does_not_change_what_stands_at_a_position() -> None:
    small = np.concatenate([batches(batch_size=4).at(position).input_ids for position in range(0, 24, 4)])
    large = np.concatenate([batches(batch_size=12).at(position).input_ids for position in range(0, 24, 12)])
    assert (small == large).all()


def test_a_run_resumes_where_it_stopped() -> None:
    whole = list(batches().iterate(stop=600))
    first = list(batches().iterate(stop=240))
    rest = list(batches().iterate(start=first[-1].next_position, stop=600))
    assert all(equal(one, other) for one, other in zip(whole, first + rest, strict=True))
    far = next(batches().iterate(start=12 * 10**9))
    assert far.next_position == 12 * 10**9 + 12


def test_every_epoch_of_a_corpus_holds_each_sample_once_with_other_masks() -> None:
    source, count = SOURCES[0], len(SOURCES[0].rows)
    alone = MaskedBatches([source], VOCABULARY, SETTINGS, batch_size=count)
    epochs = []
    for epoch in range(2):
        made = alone.at(epoch * count)
        ids = made.input_ids.copy()
        ids.reshape(-1)[made.mask_positions] = made.labels
        epochs.append((made, ids))
    assert epochs[0][0].lengths.tolist() != epochs[1][0].lengths.tolist()
    assert sorted(epochs[0][0].lengths) == sorted(epochs[1][0].lengths)
    assert epochs[0][0].mask_positions.tolist() != epochs[1][0].mask_positions.tolist()
    for epoch in range(2):
        _, rows = source.at(np.arange(epoch * count, (epoch + 1) * count))
        assert sorted(rows) == list(range(count))


def test_another_corpus_in_the_blend_does_not_change_the_samples_of_the_first() -> None:
    together = batches().at(0)
    corpora, numbers = batches()._blend.at(np.arange(12))
    alone = MaskedBatches([SOURCES[0]], VOCABULARY, SETTINGS, batch_size=12).at(0)
    here = corpora == 0
    assert (together.input_ids[here] == alone.input_ids[numbers[here]]).all()


def test_packing_gives_fewer_rows_of_the_same_samples() -> None:
    packed = MaskedBatches(SOURCES, VOCABULARY, dataclasses.replace(SETTINGS, pack=True), batch_size=60).at(0)
    assert packed.position_ids is not None
    assert packed.segment_ids is not None
    assert packed.input_ids.shape == packed.position_ids.shape == packed.segment_ids.shape
    assert len(packed.input_ids) < 60
    assert len(packed.cls_positions) == len(packed.sentence_order_labels) == 60


def test_leaving_the_loop_ends_the_threads() -> None:
    for _ in batches().iterate(threads=3):
        break
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_an_error_in_a_thread_reaches_the_caller() -> None:
    source = a_source(3)
    source.corpus.tokens[:] = 999
    broken = MaskedBatches([source], VOCABULARY, SETTINGS, batch_size=4)
    with pytest.raises(ValueError, match="outside the vocabulary"):
        next(broken.iterate())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank": 2, "ranks": 2}, "rank 2 is not in 0 to 1"),
        ({"batch_size": 10, "ranks": 4}, "10 cannot be divided among 4 ranks"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"weights": [1.0]}, "1 weights for 2 corpora"),
        ({"weights": [1.0, 0.0]}, "all weights must be positive"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        batches(**change)


def test_a_run_over_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no corpus"):
        MaskedBatches([], VOCABULARY, SETTINGS, batch_size=4)
    empty = dataclasses.replace(SOURCES[0], rows=SOURCES[0].rows[:0])
    with pytest.raises(ValueError, match="data/1 has no samples"):
        MaskedBatches([empty], VOCABULARY, SETTINGS, batch_size=4)
    with pytest.raises(ValueError, match="start -1"):
        batches().iterate(start=-1)
