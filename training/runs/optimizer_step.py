"""One optimiser step, the same for pretraining, finetuning and distillation.

Micro-batches, gradient accumulation over them and over processes, loss scale, clipping, learning rate, AdamW. Dropout
follows from (seed, step, rank), so a resumed run draws what a run that never stopped would have drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import paddle
from paddle import Tensor, nn

from training.runs import mixed_precision
from training.runs.data_parallel import ProcessGroup
from training.runs.mixed_precision import LossScale
from training.runs.optimizer import adamw, gradient_norm, optimizer_state, restore_optimizer, scale_gradients

MicroBatch = TypeVar("MicroBatch")
OPTIMIZER_FILE = "optimizer.npz"


@dataclass(frozen=True)
class StepSettings:
    """What an optimiser step depends on, apart from the model and the data."""

    precision: str
    """fp32, bf16 or fp16"""
    seed: int
    weight_decay: float
    clip_norm: float
    """bound of the global gradient norm; 0 is none"""
    learning_rate: Callable[[int], float]
    """learning rate of step 1, 2, …"""
    max_bad_steps: int
    """steps in a row without finite gradients after which the run stops"""
    remedy: str
    """ends the sentence of DivergedError: how to start again"""
    beta2: float = 0.999


@dataclass(frozen=True)
class StepResult:
    """The figures of one step."""

    sums: np.ndarray
    """float64 [T]: the loss terms, summed over this process's micro-batches"""
    learning_rate: float
    gradient_norm: float
    """before clipping; not finite where the step changed no weight"""


class OptimizerStep:
    """The optimiser of one model, and how it takes a step."""

    def __init__(self, model: nn.Layer, settings: StepSettings, group: ProcessGroup | None = None) -> None:
        self.scale = LossScale.of(settings.precision)
        self._model, self._settings, self._group = model, settings, group or ProcessGroup()
        self._parameters = model.parameters()
        self._optimizer = adamw(model, weight_decay=settings.weight_decay, beta2=settings.beta2)

    def take(
        self,
        step: int,
        micro_batches: Sequence[MicroBatch],
        terms: Callable[[MicroBatch], Tensor],
        factors: Sequence[float],
    ) -> StepResult:
        """Takes the step after `step` steps; its loss is the sum of all terms, each multiplied by its factor.

        `terms` runs the model on a micro-batch and returns its loss terms, float32 [T], summed over the micro-batch.
        `factors` [T] hold for the step over all processes, such as 1 / number of targets. A step whose gradients are
        not finite changes no weight. Raises DivergedError after too many of those in a row.
        """
        settings, scale = self._settings, self.scale.value
        paddle.seed(dropout_seed(settings.seed, step, self._group.rank))
        self._model.train()
        sums = accumulate_gradients(micro_batches, terms, factors, scale, settings.precision)
        self._group.sum_gradients(self._parameters)
        norm = gradient_norm(self._parameters) / scale
        rate = settings.learning_rate(step + 1)
        if math.isfinite(norm):
            clip = min(1.0, settings.clip_norm / norm) if settings.clip_norm and norm else 1.0
            scale_gradients(self._parameters, clip / scale)
            self._optimizer.set_lr(rate)
            self._optimizer.step()
        self._optimizer.clear_grad()
        self.scale.update(finite=math.isfinite(norm), max_bad_steps=settings.max_bad_steps, remedy=settings.remedy)
        return StepResult(sums, rate, norm)

    def write(self, folder: Path) -> None:
        """Writes the optimiser's state into the folder of a checkpoint."""
        np.savez(folder / OPTIMIZER_FILE, **optimizer_state(self._optimizer, self._model))

    def restore(self, folder: Path, loss_scale: Mapping[str, float]) -> None:
        """Resumes from what `write` wrote and `scale.state()` returned."""
        with np.load(folder / OPTIMIZER_FILE) as state:
            restore_optimizer(self._optimizer, self._model, state)
        self.scale.restore(loss_scale)


def accumulate_gradients(
    micro_batches: Sequence[MicroBatch],
    terms: Callable[[MicroBatch], Tensor],
    factors: Sequence[float],
    loss_scale: float = 1.0,
    precision: str = "fp32",
) -> np.ndarray:
    """Adds the gradients of a step's loss, times `loss_scale`, to the parameters; returns the terms' sums, float64 [T].

    The arguments are those of `OptimizerStep.take`.
    """
    weights = paddle.to_tensor(list(factors), dtype="float32") * loss_scale
    total = np.zeros(len(factors))
    for micro_batch in micro_batches:
        with mixed_precision.autocast(precision):
            sums = terms(micro_batch)
        paddle.sum(sums * weights).backward()
        total += sums.numpy()
    return total


def dropout_seed(seed: int, step: int, rank: int) -> int:
    """A seed for Paddle's generator, different for every step and rank: SplitMix64's finaliser over all three."""
    mixed = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + rank * 0x94D049BB133111EB) & (2**64 - 1)
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return (mixed ^ (mixed >> 31)) >> 33
