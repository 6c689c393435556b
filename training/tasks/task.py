"""The protocol between the finetuning loop and a task; rows of tokens and their batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from paddle import Tensor, nn

from model_build.config import ErnieConfig
from training.datasets.examples import TaskName
from training.tasks.tokenizer import pad_batch

PUSHED_OUT = -1e4
"""Added to the logits of impossible classes: their probability becomes 0, and the loss stays finite."""


@dataclass(frozen=True)
class Row:
    """One input row of the model; a long example has several rows."""

    example: int
    """index of the example"""
    input_ids: list[int]
    """with [CLS] and [SEP]"""
    second: int
    """start of the second segment: token_type_ids are 1 from there on"""


@dataclass(frozen=True)
class TaskBatch:
    """Rows of similar length, padded to the longest."""

    rows: Sequence[Any]
    """of the task's own kind"""
    input_ids: np.ndarray
    """int64 [B, S]"""
    token_type_ids: np.ndarray
    """int64 [B, S]"""

    @classmethod
    def of(cls, rows: Sequence[Row], pad: int) -> TaskBatch:
        input_ids = pad_batch([row.input_ids for row in rows], pad)
        types = np.zeros_like(input_ids)
        for index, row in enumerate(rows):
            types[index, row.second : len(row.input_ids)] = 1
        return cls(rows, input_ids, types)


class Predicted(NamedTuple):
    """One distribution for each prediction in a batch, row by row."""

    logits: Tensor
    """float32 [N, C]"""
    counts: Sequence[int]
    """number of distributions of each row; they add up to N"""


def batches(rows: Sequence[Row], size: int, rng: np.random.Generator | None) -> list[Sequence[Row]]:
    """Batches of rows of similar length: shuffled, sorted within chunks of 50 batches, then the batches shuffled.

    Without `rng` all rows are sorted, shortest first.
    """
    if rng is None:
        ordered = sorted(rows, key=lambda row: len(row.input_ids))
        return [ordered[start : start + size] for start in range(0, len(ordered), size)]
    shuffled = [rows[index] for index in rng.permutation(len(rows))]
    found: list[Sequence[Row]] = []
    for start in range(0, len(shuffled), size * 50):
        found += batches(shuffled[start : start + size * 50], size, None)
    return [found[index] for index in rng.permutation(len(found))]


class Task(Protocol):
    """A task: its labels, and the steps from examples to rows and from logits to metrics."""

    name: TaskName
    labels: Sequence[str]
    """in the order of the logits; empty for question answering"""
    metrics: Sequence[str]
    """names of the metrics, all shares from 0 to 1; the first one selects the best weights unless another is named"""

    def rows(self, examples: Sequence[Any]) -> Sequence[Row]:
        """The rows of all examples, in the order of the examples."""
        ...

    def training_rows(self, examples: Sequence[Any]) -> Sequence[Row]:
        """The rows to train on. Raises ValueError if there are none."""
        ...

    def model(self, config: ErnieConfig) -> nn.Layer:
        """ERNIE with the task's head, randomly initialised; parameters of the head are named `classifier.…`."""
        ...

    def loss(self, model: nn.Layer, batch: TaskBatch) -> Tensor:
        """Mean loss in nats over the targets of the batch: `loss_of` the model's `scores`. float32 scalar."""
        ...

    def scores(self, model: nn.Layer, batch: TaskBatch) -> tuple[Tensor, ...]:
        """The outputs of the head for the batch, float32, rows on the first axis."""
        ...

    def loss_of(self, scores: tuple[Tensor, ...], batch: TaskBatch) -> Tensor:
        """The loss of the results of `scores`; rows without a known label add nothing."""
        ...

    def distributions(self, scores: tuple[Tensor, ...], batch: TaskBatch) -> Predicted:
        """The results of `scores` as one distribution for each prediction."""
        ...

    def outputs(self, model: nn.Layer, batch: TaskBatch) -> list[Any]:
        """The model outputs that `predictions` needs, for each row of the batch."""
        ...

    def predictions(self, examples: Sequence[Any], rows: Sequence[Any], outputs: Sequence[Any]) -> list[Any]:
        """One prediction for each example, as JSON values; `outputs` belong to `rows`."""
        ...

    def figures(self, examples: Sequence[Any], predictions: Sequence[Any]) -> dict[str, Any]:
        """The metrics of the predictions by name, and further results such as a confusion matrix, as JSON values."""
        ...
