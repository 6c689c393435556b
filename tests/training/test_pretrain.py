"""The plan of a pretraining run, its batches, and that a model learns from them."""

import numpy as np
import pytest

from model_build.config import ErnieConfig
from training import stream
from training.pretrain import BatchPlan, held_out_batches, masked_batches, plan, pretrain
from training.settings import PretrainSettings, VocabularySettings
from training.tokens import Encoder
from training.vocabulary import build_vocabulary, write_vocabulary

DOCUMENTS = [[f"今天天气很好，我们去公园散步。第{number}天", "北京是中国的首都。"] for number in range(200)]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    write_vocabulary(path, build_vocabulary(map("\n".join, DOCUMENTS), VocabularySettings(200, min_count=1)))
    return Encoder(path)


@pytest.fixture(scope="module")
def tokens(encoder: Encoder) -> tuple[np.ndarray, np.ndarray]:
    return stream.tokenize(DOCUMENTS, encoder)


def test_short_rows_come_first_and_single_tokens_before_words() -> None:
    settings = PretrainSettings(
        steps=100, batch_size=4, max_seq_length=64, short_seq_length=16, short_share=0.8, basic_level_share=0.5
    )
    plans = [plan(settings, step) for step in range(1, 101)]
    assert [each.seq_length for each in plans] == [16] * 80 + [64] * 20
    assert [each.whole_words for each in plans] == [False] * 50 + [True] * 50
    assert {each.rows * each.seq_length for each in plans} == {256}


@pytest.mark.parametrize("whole_words", [False, True])
def test_a_batch_masks_the_share_asked_for_and_labels_what_stood_there(
    encoder: Encoder, tokens: tuple[np.ndarray, np.ndarray], whole_words: bool
) -> None:
    ids, boundaries = tokens
    (batch,) = masked_batches(ids, boundaries, encoder, [BatchPlan(8, 32, 0.3, whole_words)], seed=3)
    assert batch.input_ids.shape == (8, 32)
    restored = batch.input_ids.copy().reshape(-1)
    share = (restored[batch.mask_positions] == encoder.mask).mean()
    assert 0.6 < share < 1
    restored[batch.mask_positions] = batch.labels
    rows = restored.reshape(8, 32)
    assert (rows[:, 0] == encoder.cls).all()
    assert (rows[:, -1] == encoder.sep).all()
    assert not np.isin(batch.labels, encoder.specials).any()
    text = " ".join(map(str, ids))
    assert all(" ".join(map(str, row[1:-1])) in text for row in rows), "a row must be a stretch of the text"
    assert 0.2 < len(batch.labels) / (rows.size - np.isin(rows, encoder.specials).sum()) <= 0.32


def test_whole_words_are_masked_whole(encoder: Encoder, tokens: tuple[np.ndarray, np.ndarray]) -> None:
    ids, boundaries = tokens
    (batch,) = masked_batches(ids, boundaries, encoder, [BatchPlan(16, 32, 0.3, True)], seed=3)
    beijing = [encoder.tokens.index(character) for character in "北京"]
    chosen = np.zeros(batch.input_ids.size, dtype=bool)
    chosen[batch.mask_positions] = True
    restored = batch.input_ids.reshape(-1).copy()
    restored[batch.mask_positions] = batch.labels
    pairs = [place for place in range(len(restored) - 1) if restored[place : place + 2].tolist() == beijing]
    assert any(chosen[place] for place in pairs)
    assert all(chosen[place] == chosen[place + 1] for place in pairs)


def test_the_held_out_batches_never_change(encoder: Encoder, tokens: tuple[np.ndarray, np.ndarray]) -> None:
    first, second = (held_out_batches(tokens, encoder, 32, "word") for _ in range(2))
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        assert (one.input_ids == other.input_ids).all()
        assert (one.labels == other.labels).all()


def test_a_text_too_short_for_a_batch_is_refused(encoder: Encoder, tokens: tuple[np.ndarray, np.ndarray]) -> None:
    plans = [BatchPlan(1000, 64, 0.15, True)]
    with pytest.raises(ValueError, match="fewer than one batch of 1000 rows"):
        next(masked_batches(*tokens, encoder, plans, seed=1))


def test_a_small_model_learns_from_a_text_that_repeats(encoder: Encoder) -> None:
    tokens = stream.tokenize([["今天天气很好，我们去公园散步。", "北京是中国的首都。"]] * 200, encoder)
    config = ErnieConfig(
        vocab_size=len(encoder.tokens), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64, initializer_range=0.05,
    )  # fmt: skip
    settings = PretrainSettings(steps=200, batch_size=8, max_seq_length=32, short_seq_length=32, learning_rate=5e-3)
    result = pretrain(config, settings, encoder, tokens, tokens)
    # A guess among all tokens costs 4.6 nats; knowing how often each of the 22 is used costs 3.0.
    assert result.held_out["token_32"]["loss"] < 3.5
