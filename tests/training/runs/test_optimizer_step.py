"""One optimiser step: the same with micro-batches, skipped without finite gradients, resumed bit for bit."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import Tensor, nn

from training.runs.mixed_precision import DivergedError
from training.runs.optimizer_step import OptimizerStep, StepSettings, dropout_seed

SETTINGS = StepSettings(
    precision="fp32", seed=1, weight_decay=0.01, clip_norm=1.0, learning_rate=lambda step: 0.01 * step,
    max_bad_steps=3, remedy="with a lower --learning-rate",
)  # fmt: skip
ROWS = [np.random.default_rng(row).standard_normal((2, 4)).astype(np.float32) for row in range(4)]


def model(dropout: float = 0.0) -> nn.Layer:
    paddle.seed(7)
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(dropout), nn.Linear(8, 3))


def weights(layer: nn.Layer) -> list[np.ndarray]:
    return [each.numpy() for each in layer.parameters()]


def take(step: OptimizerStep, layer: nn.Layer, number: int, pieces: Sequence[np.ndarray]) -> np.ndarray:
    def terms(piece: np.ndarray) -> Tensor:
        squares = paddle.square(layer(paddle.to_tensor(piece)))
        return paddle.stack([squares.sum(), squares.sum() * 2])

    return step.take(number, pieces, terms, [0.5, 0.25]).sums


def test_micro_batches_give_the_step_of_the_whole_batch() -> None:
    whole, cut = model(), model()
    sums = take(OptimizerStep(whole, SETTINGS), whole, 0, [np.concatenate(ROWS)])
    np.testing.assert_allclose(take(OptimizerStep(cut, SETTINGS), cut, 0, ROWS), sums, rtol=1e-5)
    for one, other in zip(weights(whole), weights(cut), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_learning_rate_is_that_of_the_step_and_the_norm_is_measured_before_clipping() -> None:
    layer = model()
    step = OptimizerStep(layer, dataclasses.replace(SETTINGS, clip_norm=1e-3))
    taken = step.take(4, ROWS, lambda piece: paddle.sum(layer(paddle.to_tensor(piece))).reshape([1]), [1.0])
    assert taken.learning_rate == pytest.approx(0.05)
    assert taken.gradient_norm > 1


def test_a_step_without_finite_gradients_changes_no_weight_and_too_many_end_the_run() -> None:
    layer = model()
    step, before = OptimizerStep(layer, SETTINGS), weights(layer)
    broken = [np.full((2, 4), np.inf, dtype=np.float32)]
    for number in range(2):
        take(step, layer, number, broken)
    assert all(np.array_equal(one, other) for one, other in zip(before, weights(layer), strict=True))
    assert step.scale.skipped == 2
    with pytest.raises(DivergedError, match=r"3 steps in a row .* with a lower --learning-rate"):
        take(step, layer, 2, broken)


def test_a_restored_step_continues_bit_for_bit_with_dropout(tmp_path: Path) -> None:
    straight = model(0.5)
    step = OptimizerStep(straight, SETTINGS)
    for number in range(4):
        if number == 2:
            step.write(tmp_path)
            saved, scale = [each.clone() for each in straight.parameters()], step.scale.state()
        take(step, straight, number, ROWS)
    resumed = model(0.5)
    for parameter, value in zip(resumed.parameters(), saved, strict=True):
        parameter.set_value(value)
    step = OptimizerStep(resumed, SETTINGS)
    step.restore(tmp_path, scale)
    for number in (2, 3):
        take(step, resumed, number, ROWS)
    assert all(np.array_equal(one, other) for one, other in zip(weights(straight), weights(resumed), strict=True))


def test_dropout_seeds_differ_by_seed_step_and_rank() -> None:
    seeds = {dropout_seed(seed, step, rank) for seed in range(1, 4) for step in range(200) for rank in range(8)}
    assert len(seeds) == 3 * 200 * 8
    assert all(0 <= seed < 2**31 for seed in seeds)
