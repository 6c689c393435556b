"""With the weights of PaddleNLP's models, every head gives the outputs of PaddleNLP."""

from pathlib import Path

import numpy as np
import paddle
import pytest
from paddlenlp import transformers as published

from model_build import heads
from model_build.config import ErnieConfig
from model_build.weights import WeightsError, load_state, read_weights

SHAPES = {
    "1.0": ErnieConfig(vocab_size=300, hidden_size=48, num_hidden_layers=3, num_attention_heads=4,
                       intermediate_size=96, max_position_embeddings=65),
    "3.0": ErnieConfig(vocab_size=500, hidden_size=36, num_hidden_layers=2, num_attention_heads=6,
                       intermediate_size=80, hidden_act="gelu", max_position_embeddings=128, type_vocab_size=4,
                       task_type_vocab_size=16, use_task_id=True),
}  # fmt: skip


@pytest.fixture(params=SHAPES)
def config(request: pytest.FixtureRequest) -> ErnieConfig:
    return SHAPES[request.param]


@pytest.fixture
def batch(config: ErnieConfig) -> tuple[paddle.Tensor, paddle.Tensor, np.ndarray]:
    rng = np.random.default_rng(7)
    lengths = [40, 23, 9]
    ids = np.zeros((3, 40), dtype=np.int64)
    types = np.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, :length] = rng.integers(1, config.vocab_size, length)
        types[row, length // 2 : length] = 1
    return paddle.to_tensor(ids), paddle.to_tensor(types), ids != 0


def reference(cls: type, config: ErnieConfig, **extra: object) -> paddle.nn.Layer:
    paddle.seed(11)
    model = cls(published.ErnieConfig(**config.to_dict(), **extra))
    for _, parameter in model.named_parameters():
        # Biases and layer norms are initialised with constants, which could hide a swapped name.
        if parameter.ndim == 1:
            parameter.set_value(parameter + paddle.normal(0.0, 0.1, parameter.shape))
    model.eval()
    return model


def loaded(ours: paddle.nn.Layer, theirs: paddle.nn.Layer) -> paddle.nn.Layer:
    assert load_state(ours, {name: value.numpy() for name, value in theirs.state_dict().items()}) == []
    assert {name: tuple(value.shape) for name, value in ours.state_dict().items()} == {
        name: tuple(value.shape) for name, value in theirs.state_dict().items()
    }
    ours.eval()
    return ours


def difference(ours: paddle.Tensor, theirs: paddle.Tensor, real: np.ndarray | None = None) -> float:
    gap = np.abs(ours.numpy() - theirs.numpy())
    return float((gap if real is None else gap[real]).max())


def test_encoder_and_pooler_equal_paddlenlps(config: ErnieConfig, batch: tuple) -> None:
    ids, types, real = batch
    theirs = reference(published.ErnieModel, config)
    ours = loaded(heads.ErnieModel(config), theirs)
    hidden, pooled = ours(ids, types)
    want_hidden, want_pooled = theirs(ids, types)
    assert difference(pooled, want_pooled) <= 1e-5
    assert difference(hidden, want_hidden, real) <= 1e-5


def test_pretraining_heads_equal_paddlenlps(config: ErnieConfig, batch: tuple) -> None:
    ids, types, _ = batch
    theirs = reference(published.ErnieForPretraining, config)
    ours = loaded(heads.ErnieForPretraining(config), theirs)
    positions = paddle.to_tensor(np.array([1, 5, 41, 82], dtype=np.int64))
    logits, order = ours(ids, types, positions)
    want_logits, want_order = theirs(ids, types, masked_positions=positions)
    assert difference(logits, want_logits) <= 1e-5
    assert difference(order, want_order) <= 1e-5


def test_the_masked_lm_head_equals_paddlenlps(config: ErnieConfig, batch: tuple) -> None:
    ids, types, real = batch
    theirs = reference(published.ErnieForMaskedLM, config)
    ours = loaded(heads.ErnieForMaskedLM(config), theirs)
    assert difference(ours(ids, types), theirs(ids, types), real) <= 1e-5


def test_the_sequence_classification_head_equals_paddlenlps(config: ErnieConfig, batch: tuple) -> None:
    ids, types, _ = batch
    theirs = reference(published.ErnieForSequenceClassification, config, num_labels=5)
    ours = loaded(heads.ErnieForSequenceClassification(config, 5), theirs)
    assert difference(ours(ids, types), theirs(ids, types)) <= 1e-5


def test_the_token_classification_head_equals_paddlenlps(config: ErnieConfig, batch: tuple) -> None:
    ids, types, real = batch
    theirs = reference(published.ErnieForTokenClassification, config, num_labels=7)
    ours = loaded(heads.ErnieForTokenClassification(config, 7), theirs)
    assert difference(ours(ids, types), theirs(ids, types), real) <= 1e-5


def test_the_question_answering_head_equals_paddlenlps(config: ErnieConfig, batch: tuple) -> None:
    ids, types, real = batch
    theirs = reference(published.ErnieForQuestionAnswering, config)
    ours = loaded(heads.ErnieForQuestionAnswering(config), theirs)
    for got, want in zip(ours(ids, types), theirs(ids, types), strict=True):
        assert difference(got, want, real) <= 1e-5


def test_a_file_saved_by_paddlenlp_can_be_loaded(config: ErnieConfig, batch: tuple, tmp_path: Path) -> None:
    theirs = reference(published.ErnieForMaskedLM, config)
    theirs.save_pretrained(str(tmp_path))
    ours = heads.ErnieForMaskedLM(config)
    load_state(ours, read_weights(tmp_path))
    ours.eval()
    ids, types, real = batch
    assert difference(ours(ids, types), theirs(ids, types), real) <= 1e-5
    assert ErnieConfig.from_json(tmp_path / "config.json") == config


def test_the_error_for_weights_that_do_not_fit_names_them(config: ErnieConfig) -> None:
    state = {name: value.numpy() for name, value in heads.ErnieForMaskedLM(config).state_dict().items()}
    del state["ernie.pooler.dense.bias"]
    state["cls.predictions.transform.weight"] = np.zeros((2, 2), dtype=np.float32)
    with pytest.raises(
        WeightsError,
        match=r"missing: ernie\.pooler\.dense\.bias.*cls\.predictions\.transform\.weight \(file \[2, 2\]",
    ):
        load_state(heads.ErnieForMaskedLM(config), state)


def test_the_weights_of_a_new_head_may_be_missing(config: ErnieConfig) -> None:
    state = {name: value.numpy() for name, value in heads.ErnieForMaskedLM(config).state_dict().items()}
    left_over = load_state(heads.ErnieForSequenceClassification(config, 2), state, new_heads=("classifier.",))
    assert all(name.startswith("cls.") for name in left_over)
    assert left_over
