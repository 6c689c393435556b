"""What the finetuning loop asks of a task, and what is the same in all of them: rows of tokens, and their batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from paddle import Tensor, nn

from model_build.config import ErnieConfig
from training.tasks.tokenizer import pad_batch

TaskName = Literal["classify", "token-classification", "question-answering"]
PUSHED_OUT = -1e4
"""Added to logits of what cannot be: its probability is 0, and the loss stays finite."""


@dataclass(frozen=True)
class Row:
    """What the model reads at once of an example; a long one has several rows."""

    example: int
    """index of the example"""
    input_ids: list[int]
    """with [CLS] and [SEP]"""
    second: int
    """where the second segment begins: from there on token_type_ids are 1"""


@dataclass(frozen=True)
class TaskBatch:
    """Rows of similar length, filled up to the longest."""

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
    """One distribution for everything that is predicted in a batch, that of each row after the other."""

    logits: Tensor
    """float32 [N, C]"""
    counts: Sequence[int]
    """how many of the N belong to each row"""


def batches(rows: Sequence[Row], size: int, rng: np.random.Generator | None) -> list[Sequence[Row]]:
    """Rows of similar length together: shuffled, sorted within chunks of 50 batches, and the batches shuffled.

    Without `rng` all rows are sorted, the shortest first.
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
    """A task with its labels and its way from examples to rows, and from logits to figures."""

    name: TaskName
    labels: Sequence[str]
    """in the order of the logits; empty for question answering"""
    metrics: Sequence[str]
    """names of the figures, all of them shares; the first chooses the best weights unless another is named"""

    def rows(self, examples: Sequence[Any]) -> Sequence[Row]:
        """The rows of all examples, each example's one after the other."""
        ...

    def training_rows(self, examples: Sequence[Any]) -> Sequence[Row]:
        """The rows to learn from. Raises ValueError where there is none."""
        ...

    def model(self, config: ErnieConfig) -> nn.Layer:
        """ERNIE with the task's head, at random; parameters of the head are named `classifier.…`."""
        ...

    def loss(self, model: nn.Layer, batch: TaskBatch) -> Tensor:
        """Mean loss in nats over what is to be predicted in the batch: `loss_of` the model's `scores`."""
        ...

    def scores(self, model: nn.Layer, batch: TaskBatch) -> tuple[Tensor, ...]:
        """What the head says of the batch, float32 with the rows on the first axis."""
        ...

    def loss_of(self, scores: tuple[Tensor, ...], batch: TaskBatch) -> Tensor:
        """The loss of scores that `scores` gave; rows whose label is not known add nothing to it."""
        ...

    def distributions(self, scores: tuple[Tensor, ...], batch: TaskBatch) -> Predicted:
        """The same scores as one distribution for everything that is predicted."""
        ...

    def outputs(self, model: nn.Layer, batch: TaskBatch) -> list[Any]:
        """What `predictions` needs of the model for each row of the batch."""
        ...

    def predictions(self, examples: Sequence[Any], rows: Sequence[Any], outputs: Sequence[Any]) -> list[Any]:
        """One prediction for each example, JSON as it stands; `outputs` are those of `rows`."""
        ...

    def figures(self, examples: Sequence[Any], predictions: Sequence[Any]) -> dict[str, Any]:
        """The metrics of predictions by name, and what else is to be known of them, as JSON."""
        ...
