"""The manual gradients equal Paddle's own, and only training on the CPU uses them."""

from collections.abc import Callable

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle import Tensor, nn
from paddle.base import core, framework

from model_build import cpu_gradients
from model_build.config import ErnieConfig
from model_build.cpu_gradients import (
    GELU,
    Dropout,
    LayerNorm,
    Linear,
    attention,
    keep_mask,
    linear,
    uses_manual_gradients,
)
from model_build.heads import ErnieForPretraining, ErnieForSequenceClassification, ErnieForTokenClassification

SEEDS = st.integers(0, 2**31 - 1)
SIZES = st.integers(1, 9)
SHAPE = {
    "vocab_size": 120, "hidden_size": 40, "num_hidden_layers": 2, "num_attention_heads": 5, "intermediate_size": 72,
    "max_position_embeddings": 32, "initializer_range": 0.2,
}  # fmt: skip
Function = Callable[..., Tensor]


def normal(shape: list[int], scale: float = 1.0) -> Tensor:
    value = paddle.randn(shape) * scale
    value.stop_gradient = False
    return value


def upstream(y: Tensor) -> Tensor:
    """A gradient for `y`: irregular values, the same in every call."""
    return paddle.cos(paddle.arange(y.size, dtype="float32")).reshape(y.shape)


def output_and_gradients(function: Function, inputs: list[Tensor], dy: Tensor | None = None) -> list[np.ndarray]:
    for each in inputs:
        each.clear_grad()
    y = function(*inputs)
    y.backward(upstream(y) if dy is None else dy)
    return [y.numpy(), *(each.grad.numpy() for each in inputs)]


def assert_same(ours: Function, paddles: Function, inputs: list[Tensor], tolerance: float = 1e-5) -> None:
    """Compares the outputs, and the gradients of all inputs."""
    got, want = output_and_gradients(ours, inputs), output_and_gradients(paddles, inputs)
    for one, other in zip(got, want, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * max(1.0, np.abs(other).max()))


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.lists(SIZES, min_size=1, max_size=3), SIZES, SIZES)
def test_linear_equals_paddles(seed: int, leading: list[int], inputs: int, outputs: int) -> None:
    paddle.seed(seed)
    x, bias = normal([*leading, inputs]), normal([outputs])
    assert_same(linear, F.linear, [x, normal([inputs, outputs]), bias])
    assert_same(
        lambda x, weight, bias: linear(x, weight, bias, transpose=True),
        lambda x, weight, bias: paddle.matmul(x, weight, transpose_y=True) + bias,
        [x, normal([outputs, inputs]), bias],
    )


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.lists(SIZES, min_size=1, max_size=3), st.sampled_from([0.01, 1.0, 10.0]))
def test_gelu_equals_paddles(seed: int, shape: list[int], scale: float) -> None:
    paddle.seed(seed)
    assert_same(GELU(), F.gelu, [normal(shape, scale)])


def test_gelu_is_right_for_extreme_values() -> None:
    x = paddle.to_tensor([-1e30, -100.0, -14.0, -0.0, 0.0, 1e-30, 14.0, 100.0, 1e30])
    x.stop_gradient = False
    dx = output_and_gradients(GELU(), [x], paddle.ones([9]))[1]
    np.testing.assert_allclose(dx, [0, 0, 0, 0.5, 0.5, 0.5, 1, 1, 1], rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(SEEDS, st.lists(SIZES, min_size=1, max_size=3), st.integers(4, 40), st.floats(-5, 5))
def test_layer_norm_equals_paddles(seed: int, leading: list[int], width: int, mean: float) -> None:
    paddle.seed(seed)
    layer = LayerNorm(width, epsilon=1e-12)

    def paddles(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.layer_norm(x, width, weight, bias, 1e-12)

    def ours(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        layer.weight, layer.bias = parameters
        return layer(x)

    parameters = [nn.Layer().create_parameter([width]) for _ in range(2)]
    for parameter in parameters:
        parameter.set_value(paddle.randn([width]))
    x = (normal([*leading, width]) + mean).detach()
    x.stop_gradient = False
    assert_same(ours, paddles, [x, *parameters], 5e-5)


def textbook_attention(qkv: Tensor, bias: Tensor, num_heads: int, keep: Tensor | None, dropout: float) -> Tensor:
    """Attention step by step, with Paddle's own gradients; `keep` [heads, B, S, S] is the dropout mask."""
    batch, length, width = qkv.shape
    query, key, value = (
        paddle.transpose(paddle.reshape(each, [batch, length, num_heads, -1]), [0, 2, 1, 3])
        for each in paddle.split(qkv, 3, axis=-1)
    )
    scores = paddle.matmul(query, key, transpose_y=True) / query.shape[-1] ** 0.5 + bias
    weights = F.softmax(scores)
    if keep is not None:
        weights = weights * paddle.transpose(keep, [1, 0, 2, 3]) / (1 - dropout)
    context = paddle.transpose(paddle.matmul(weights, value), [0, 2, 1, 3])
    return paddle.reshape(context, [batch, length, width // 3])


def bias_of(kind: str, batch: int, length: int) -> Tensor:
    """The bias of rows whose last third is padding, or of packed rows with two texts."""
    columns = np.arange(length)
    if kind == "padded":
        hidden = np.broadcast_to(columns >= max(1, 2 * length // 3), [batch, 1, 1, length])
    else:
        text = columns >= length // 2
        hidden = np.broadcast_to(text[:, None] != text, [batch, 1, length, length])
    return paddle.to_tensor(np.where(hidden, -1e4, 0.0).astype("float32"))


@settings(deadline=None, max_examples=30)
@given(
    SEEDS, SIZES, SIZES, st.integers(1, 6), SIZES, st.sampled_from(["padded", "packed"]), st.sampled_from([0.0, 0.3])
)
def test_attention_equals_the_textbook_formula(
    seed: int, batch: int, length: int, heads: int, head_dim: int, kind: str, dropout: float
) -> None:
    bias = bias_of(kind, batch, length)
    paddle.seed(seed)
    keep = keep_mask([heads, batch, length, length], dropout) if dropout else None

    def ours(qkv: Tensor) -> Tensor:
        paddle.seed(seed)
        return attention(qkv, bias, heads, dropout)

    assert_same(
        ours,
        lambda qkv: textbook_attention(qkv, bias, heads, keep, dropout),
        [normal([batch, length, 3 * heads * head_dim])],
    )


@pytest.mark.parametrize("at_once", [1, 50, 110, 10_000], ids=["one by one", "one", "two and a rest", "all"])
def test_attention_does_not_depend_on_the_number_of_heads_in_a_group(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_gradients, "SCORES_AT_ONCE", at_once)
    bias = bias_of("packed", 2, 5)
    assert_same(
        lambda qkv: attention(qkv, bias, 5, 0.0),
        lambda qkv: textbook_attention(qkv, bias, 5, None, 0.0),
        [normal([2, 5, 3 * 5 * 4])],
    )


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.9])
def test_a_dropout_mask_keeps_the_given_share_and_follows_paddles_generator(dropout: float) -> None:
    paddle.seed(3)
    state = paddle.get_rng_state()
    first, second = (keep_mask([100, 1001], dropout).numpy() for _ in range(2))
    size = first.size
    for mask in (first, second, (first == second).astype(float)):
        assert set(np.unique(mask)) == {0.0, 1.0}
    for mask in (first, second):
        assert abs(mask.mean() - (1 - dropout)) < 5 * np.sqrt(dropout * (1 - dropout) / size)
    # Two masks agree as often as independent masks.
    agree = dropout**2 + (1 - dropout) ** 2
    assert abs((first == second).mean() - agree) < 5 * np.sqrt(agree * (1 - agree) / size)
    paddle.set_rng_state(state)
    assert (keep_mask([100, 1001], dropout).numpy() == first).all()


def test_dropout_scales_the_kept_elements_and_only_they_get_gradients() -> None:
    x = normal([50, 7])
    y, dx = output_and_gradients(Dropout(0.25), [x], paddle.full([50, 7], 3.0))
    kept = y != 0
    assert 0 < kept.sum() < kept.size
    np.testing.assert_allclose(y[kept], x.numpy()[kept] / 0.75, rtol=1e-6)
    np.testing.assert_allclose(dx, np.where(kept, 4.0, 0.0), rtol=1e-6)
    assert (Dropout(0.0)(x).numpy() == x.numpy()).all()


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_frozen_inputs_get_no_gradient_and_do_not_change_that_of_the_others(frozen: int) -> None:
    for function, inputs in (
        (linear, [normal([4, 3]), normal([3, 2]), normal([2])]),
        (lambda *each: cpu_gradients._LayerNorm.apply(*each, 1e-5), [normal([4, 6]), normal([6]), normal([6])]),
    ):
        want = output_and_gradients(function, inputs)[1:]
        inputs = [each.detach() for each in inputs]
        for number, each in enumerate(inputs):
            each.stop_gradient = number == frozen
        y = function(*inputs)
        y.backward(upstream(y))
        assert inputs[frozen].grad is None
        for number, each in enumerate(inputs):
            if number != frozen:
                assert (each.grad.numpy() == want[number]).all()


def batch_of(kind: str) -> dict[str, Tensor]:
    """Three rows of 24 tokens, with padding or packed with two texts each."""
    rng = np.random.default_rng(5)
    ids = rng.integers(1, 120, (3, 24))
    columns = np.arange(24)
    real = columns < np.array([[24], [17], [20]])
    types = np.where(columns % 12 < 6, 0, 1) * real
    batch = {"input_ids": ids * real, "token_type_ids": types, "mask_positions": np.array([1, 5, 26, 39, 50, 51, 60])}
    if kind == "packed":
        batch["position_ids"] = np.broadcast_to(columns % 12, (3, 24)).copy()
        batch["segment_ids"] = np.where(columns < 12, 1, 2) * real
        batch["cls_positions"] = np.array([0, 12, 24, 36, 48, 60])
    return {name: paddle.to_tensor(array) for name, array in batch.items()}


def model_of(activation: str = "gelu", dropout: float = 0.0) -> ErnieForPretraining:
    paddle.seed(8)
    config = ErnieConfig(
        **SHAPE, hidden_act=activation, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout
    )
    model = ErnieForPretraining(config)
    for parameter in model.parameters():
        # Biases and layer norms are initialised with constants, which could hide an error.
        if parameter.ndim == 1:
            parameter.set_value(parameter + paddle.normal(0.0, 0.1, parameter.shape))
    model.train()
    return model


def loss_and_gradients(model: ErnieForPretraining, kind: str) -> tuple[float, dict[str, np.ndarray]]:
    batch = batch_of(kind)
    model.clear_gradients()
    paddle.seed(21)
    tokens, order = model(**batch)
    loss = F.cross_entropy(tokens, paddle.arange(10, 10 + len(tokens)))
    loss += F.cross_entropy(order, paddle.arange(len(order)) % 2)
    loss.backward()
    return float(loss), {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("kind", ["padded", "packed"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_loss_and_gradients_of_a_whole_model_equal_paddles(kind: str, activation: str) -> None:
    model = model_of(activation)
    loss, gradients = loss_and_gradients(model, kind)
    with cpu_gradients.paddle_gradients():
        want_loss, want = loss_and_gradients(model, kind)
    assert loss == pytest.approx(want_loss, rel=1e-5)
    for name, gradient in gradients.items():
        # The bias of the keys adds the same number to all scores of a row, so its gradient is only rounding error.
        scale = np.abs(want[name.replace("k_proj.bias", "q_proj.bias")]).max()
        np.testing.assert_allclose(gradient, want[name], rtol=0, atol=1e-5 * scale, err_msg=name)


def test_two_runs_give_the_same_gradients_bit_for_bit() -> None:
    runs = [loss_and_gradients(model_of(dropout=0.1), "packed") for _ in range(2)]
    assert runs[0][0] == runs[1][0]
    for name, gradient in runs[0][1].items():
        assert (gradient == runs[1][1][name]).all(), name


def test_a_recomputed_encoder_gives_the_same_gradients_bit_for_bit() -> None:
    model = model_of(dropout=0.1)
    loss, gradients = loss_and_gradients(model, "padded")
    model.ernie.encoder.recompute = True
    again_loss, again = loss_and_gradients(model, "padded")
    assert again_loss == loss
    for name, gradient in gradients.items():
        assert (gradient == again[name]).all(), name


def manual_nodes(y: Tensor) -> set[str]:
    """Names of the PyLayers in the graph that computed `y`."""
    found, seen, waiting = set(), set(), [y.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if "PyLayer" in node.name():
            found.add(node.name())
        waiting += [function for function in node.next_functions]
    return found


def test_training_on_the_cpu_uses_manual_gradients_and_evaluation_does_not() -> None:
    model = model_of(dropout=0.1)
    batch = batch_of("padded")
    names = " ".join(manual_nodes(model(**batch)[0]))
    for piece in ("Linear", "Gelu", "LayerNorm", "Attention"):
        assert f"_{piece}" in names
    model.eval()
    assert manual_nodes(model(**batch)[0]) == set()


@pytest.mark.parametrize("head", [ErnieForSequenceClassification, ErnieForTokenClassification])
def test_finetuning_uses_manual_gradients(head: type[nn.Layer]) -> None:
    model = head(ErnieConfig(**SHAPE), 3)
    model.train()
    assert manual_nodes(model(batch_of("padded")["input_ids"]))


def test_other_precisions_autocast_and_static_graphs_use_paddles_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = Linear(4, 4), normal([2, 4])
    assert uses_manual_gradients(layer, x)
    assert not uses_manual_gradients(layer, x.astype("float64"))
    assert not uses_manual_gradients(layer, x.astype("bfloat16"))
    with monkeypatch.context() as patch:
        # The level that paddle.amp.auto_cast sets on a GPU; on the CPU it sets none.
        patch.setattr(framework._dygraph_tracer(), "_amp_level", core.AmpLevel.O1)
        assert not uses_manual_gradients(layer, x)
    with cpu_gradients.paddle_gradients():
        assert not uses_manual_gradients(layer, x)
    assert uses_manual_gradients(layer, x)
    traced = paddle.jit.to_static(Linear(4, 4), input_spec=[paddle.static.InputSpec([None, 4])], full_graph=True)
    assert "py_layer" not in str(traced.forward.main_program)
