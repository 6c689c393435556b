"""Sequence classification: one label for a text, or for a pair of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from model_build.config import ErnieConfig
from model_build.heads import ErnieForSequenceClassification
from training.datasets.examples import Example, TaskName
from training.tasks.metrics import classification_scores
from training.tasks.task import Predicted, Row, TaskBatch
from training.tasks.tokenizer import Tokenizer


@dataclass(frozen=True)
class LabelledRow(Row):
    """A text or pair of texts, cut to the maximum length."""

    label: int
    """index of the label; -1 if it is unknown or not a label of the task"""


class Classification:
    """One label for [CLS] text [SEP], or for [CLS] text [SEP] pair [SEP], of which the longer text is cut first."""

    name: TaskName = "classify"
    metrics: Sequence[str] = ("accuracy", "macro_f1")

    def __init__(
        self, tokenizer: Tokenizer, labels: Sequence[str], max_seq_length: int, class_weights: np.ndarray | None = None
    ) -> None:
        """`class_weights` float32 [labels] multiply the loss of each class; None means equal weights."""
        self.labels = labels
        self._tokenizer, self._max_seq_length = tokenizer, max_seq_length
        self._index = {label: index for index, label in enumerate(labels)}
        self._weights = None if class_weights is None else paddle.to_tensor(class_weights)

    def rows(self, examples: Sequence[Example]) -> list[LabelledRow]:
        return [self._row(index, example) for index, example in enumerate(examples)]

    training_rows = rows

    def _row(self, index: int, example: Example) -> LabelledRow:
        encoding = self._tokenizer.encode(example.text, example.text_pair, max_length=self._max_seq_length)
        types = encoding.token_type_ids
        second = types.index(1) if 1 in types else len(types)
        return LabelledRow(index, encoding.ids, second, self._index.get(example.label, -1))

    def model(self, config: ErnieConfig) -> ErnieForSequenceClassification:
        return ErnieForSequenceClassification(config, len(self.labels))

    def loss(self, model: nn.Layer, batch: TaskBatch) -> Tensor:
        return self.loss_of(self.scores(model, batch), batch)

    def scores(self, model: nn.Layer, batch: TaskBatch) -> tuple[Tensor]:
        """Logits [B, labels]."""
        return (model(paddle.to_tensor(batch.input_ids), paddle.to_tensor(batch.token_type_ids)),)

    def loss_of(self, scores: tuple[Tensor, ...], batch: TaskBatch) -> Tensor:
        """Mean cross entropy; if some rows have no label, the mean over the others times their share of the batch."""
        (logits,) = scores
        labels = np.array([row.label for row in batch.rows])
        known = np.flatnonzero(labels >= 0)
        if len(known) == len(labels):
            return F.cross_entropy(logits, paddle.to_tensor(labels), weight=self._weights)
        if not len(known):
            return paddle.zeros([])
        chosen = paddle.gather(logits, paddle.to_tensor(known))
        loss = F.cross_entropy(chosen, paddle.to_tensor(labels[known]), weight=self._weights)
        return loss * (len(known) / len(labels))

    def distributions(self, scores: tuple[Tensor, ...], batch: TaskBatch) -> Predicted:
        """One for every row."""
        return Predicted(scores[0], [1] * len(batch.rows))

    def outputs(self, model: nn.Layer, batch: TaskBatch) -> list[np.ndarray]:
        """Probabilities [labels] of every row."""
        return list(F.softmax(self.scores(model, batch)[0]).numpy())

    def predictions(
        self, examples: Sequence[Example], rows: Sequence[LabelledRow], outputs: Sequence[np.ndarray]
    ) -> list[dict[str, Any]]:
        """`{"label", "score", "scores"}`: the most probable label, its probability, and those of all labels."""
        found = []
        for probabilities in outputs:
            best = int(probabilities.argmax())
            scores = {label: float(score) for label, score in zip(self.labels, probabilities, strict=True)}
            found.append({"label": self.labels[best], "score": float(probabilities[best]), "scores": scores})
        return found

    def figures(self, examples: Sequence[Example], predictions: Sequence[dict[str, Any]]) -> dict[str, Any]:
        gold, predicted = [each.label for each in examples], [each["label"] for each in predictions]
        return classification_scores(gold, predicted, self.labels)


def balanced_weights(examples: Sequence[Example], labels: Sequence[str]) -> np.ndarray:
    """float32 [labels]: class weights examples / (classes x examples of the class), the same total for every class."""
    counts = np.array([sum(each.label == label for each in examples) for label in labels])
    return (len(examples) / (len(labels) * counts)).astype(np.float32)
