"""Learning rate, AdamW against its formula, clipping, and a state that another process can read."""

import numpy as np
import paddle
import pytest
from paddle import nn

from training.runs.learning_rate import learning_rate
from training.runs.optimizer import adamw, gradient_norm, optimizer_state, restore_optimizer, scale_gradients


def test_the_rate_rises_to_the_peak_falls_to_the_minimum_and_stays_there() -> None:
    rates = [
        learning_rate(step, peak=1.0, minimum=0.2, warmup_steps=4, decay_steps=12) for step in (1, 2, 4, 8, 12, 13, 99)
    ]
    assert rates == pytest.approx([0.25, 0.5, 1.0, 0.6, 0.2, 0.2, 0.2])


def trained(layer: nn.Layer, optimizer: paddle.optimizer.Optimizer, steps: range) -> None:
    for step in steps:
        paddle.sum(paddle.sin(layer(paddle.full([2, 3], 0.1 * (step + 1))))).backward()
        optimizer.set_lr(0.01 * (step + 1))
        optimizer.step()
        optimizer.clear_grad()


def test_it_is_adamw_that_decays_matrices_and_no_biases() -> None:
    layer = nn.Linear(3, 4)
    layer.bias.set_value(paddle.ones([4]))
    weight, bias = layer.weight.numpy().astype(np.float64), layer.bias.numpy().astype(np.float64)
    moments = [np.zeros((2, *value.shape)) for value in (weight, bias)]
    optimizer = adamw(layer, weight_decay=0.1, beta2=0.95)
    for step in range(5):
        x, rate = np.full((2, 3), 0.1 * (step + 1)), 0.01 * (step + 1)
        slope = np.cos(x @ weight + bias)
        gradients = (x.T @ slope, slope.sum(axis=0))
        for value, gradient, (first, second), decay in zip((weight, bias), gradients, moments, (0.1, 0.0), strict=True):
            first[:] = 0.9 * first + 0.1 * gradient
            second[:] = 0.95 * second + 0.05 * gradient**2
            value -= rate * decay * value
            value -= rate * (first / (1 - 0.9 ** (step + 1))) / (np.sqrt(second / (1 - 0.95 ** (step + 1))) + 1e-8)
        trained(layer, optimizer, range(step, step + 1))
    np.testing.assert_allclose(layer.weight.numpy(), weight, rtol=1e-5)
    np.testing.assert_allclose(layer.bias.numpy(), bias, rtol=1e-5)


def test_a_restored_optimizer_goes_on_bit_for_bit_under_other_parameter_names() -> None:
    whole = nn.Linear(3, 4)
    start = {name: value.numpy().copy() for name, value in whole.state_dict().items()}
    optimizer = adamw(whole, weight_decay=0.1)
    trained(whole, optimizer, range(6))

    first = nn.Linear(3, 4)
    first.set_state_dict(start)
    before = adamw(first, weight_decay=0.1)
    trained(first, before, range(3))
    state = optimizer_state(before, first)
    assert sorted(state)[:2] == ["bias.beta1_pow_acc", "bias.beta2_pow_acc"]
    second = nn.Linear(3, 4)
    assert second.weight.name != first.weight.name
    second.set_state_dict(first.state_dict())
    after = adamw(second, weight_decay=0.1)
    restore_optimizer(after, second, state)
    trained(second, after, range(3, 6))
    assert all(np.array_equal(second.state_dict()[name].numpy(), whole.state_dict()[name].numpy()) for name in start)


def test_the_norm_is_that_of_all_gradients_together_and_scaling_is_in_place() -> None:
    layer = nn.Linear(3, 4)
    paddle.sum(layer(paddle.ones([2, 3])) ** 2).backward()
    flat = np.concatenate([each.grad.numpy().ravel() for each in layer.parameters()])
    assert gradient_norm(layer.parameters()) == pytest.approx(np.linalg.norm(flat), rel=1e-5)
    scale_gradients(layer.parameters(), 0.25)
    scaled = np.concatenate([each.grad.numpy().ravel() for each in layer.parameters()])
    np.testing.assert_allclose(scaled, flat / 4, rtol=1e-6)


def test_the_norm_of_an_infinite_gradient_is_not_finite() -> None:
    layer = nn.Linear(3, 4)
    paddle.sum(layer(paddle.ones([2, 3])) * 1e38 * 1e10).backward()
    assert not np.isfinite(gradient_norm(layer.parameters()))
