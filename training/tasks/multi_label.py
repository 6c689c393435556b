"""Multi-label classification: any number of labels for a text, or for a pair of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from training.datasets.examples import Example, labels_of
from training.tasks.classification import Classification
from training.tasks.metrics import multi_label_scores
from training.tasks.task import Row, TaskBatch

THRESHOLD = 0.5
"""A label is predicted if its probability is at least this."""


@dataclass(frozen=True)
class MultiLabelRow(Row):
    """A text or pair of texts, cut to the maximum length."""

    labels: tuple[int, ...]
    """indices of the labels that the task knows"""


class MultiLabelClassification(Classification):
    """A sigmoid for each label, trained with binary cross entropy; inputs as in `Classification`."""

    metrics: Sequence[str] = ("micro_f1", "macro_f1", "subset_accuracy")

    def rows(self, examples: Sequence[Example]) -> list[MultiLabelRow]:  # type: ignore[override]
        found = []
        for row, example in zip(super().rows(examples), examples, strict=True):
            known = tuple(self._index[label] for label in labels_of(example) if label in self._index)
            found.append(MultiLabelRow(row.example, row.input_ids, row.second, known))
        return found

    training_rows = rows  # type: ignore[assignment]

    def loss_of(self, scores: tuple[Tensor, ...], batch: TaskBatch) -> Tensor:
        """Mean binary cross entropy over texts and labels."""
        (logits,) = scores
        targets = np.zeros(logits.shape, dtype=np.float32)
        for index, row in enumerate(batch.rows):
            targets[index, list(row.labels)] = 1
        return F.binary_cross_entropy_with_logits(logits, paddle.to_tensor(targets))

    def outputs(self, model: nn.Layer, batch: TaskBatch) -> list[np.ndarray]:
        """Probabilities [labels] of every row."""
        return list(F.sigmoid(self.scores(model, batch)[0]).numpy())

    def predictions(
        self, examples: Sequence[Example], rows: Sequence[Any], outputs: Sequence[np.ndarray]
    ) -> list[dict[str, Any]]:
        """`{"labels", "scores"}`: the labels whose probability is at least THRESHOLD, and the probabilities of all."""
        found = []
        for probabilities in outputs:
            scores = {label: float(score) for label, score in zip(self.labels, probabilities, strict=True)}
            found.append({"labels": [name for name, score in scores.items() if score >= THRESHOLD], "scores": scores})
        return found

    def figures(self, examples: Sequence[Example], predictions: Sequence[dict[str, Any]]) -> dict[str, Any]:
        gold = np.array([[label in labels_of(each) for label in self.labels] for each in examples])
        scores = np.array([[each["scores"][label] for label in self.labels] for each in predictions])
        return multi_label_scores(gold, scores, self.labels, THRESHOLD)
