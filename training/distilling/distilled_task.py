"""A task that is learnt from teachers too: rows, figures and predictions are the task's, the loss is more.

Sources: `training.distilling.losses`. Hard labels and probabilities together, with relations, are the last stage of
ERNIE-Tiny (Su et al., arXiv:2106.02241); labels may be missing where the teacher says enough.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import paddle
from paddle import Tensor, nn

from model_build.config import ErnieConfig
from training.distilling.losses import (
    States,
    averaged_log_probabilities,
    record_attention,
    relation_losses,
    soft_losses,
)
from training.distilling.settings import DistillSettings
from training.distilling.teachers import Teacher
from training.runs.progress import Progress
from training.tasks.task import PUSHED_OUT, Predicted, Row, Task, TaskBatch, batches

log = logging.getLogger(__name__)

TEACHER_BATCH = 64


class DistilledTask:
    """The task that it wraps, with the teachers' losses."""

    def __init__(
        self, task: Task, teachers: Sequence[Teacher], settings: DistillSettings, unlabelled: Sequence[Any], pad: int
    ) -> None:
        """The teachers' heads have the order of the task's labels; `pad` is the id that fills up rows."""
        self.name, self.labels, self.metrics = task.name, task.labels, task.metrics
        self._task, self._teachers, self._settings = task, teachers, settings
        self._unlabelled, self._pad = unlabelled, pad
        self._learnt: tuple[Any, Sequence[Row]] = (None, [])
        self._said: dict[int, np.ndarray] = {}
        """of each row that is learnt, by the id of the object: log-probabilities [n, C]"""

    def rows(self, examples: Sequence[Any]) -> Sequence[Row]:
        return self._task.rows(examples)

    def training_rows(self, examples: Sequence[Any]) -> Sequence[Row]:
        """Those of the examples, and after them those of the unlabelled texts; the same objects for the same examples.

        So the runs of a job ask the teachers once.
        """
        if self._learnt[0] is not examples:
            self._said = {}
            self._learnt = examples, [*self._task.training_rows(examples), *self._task.rows(self._unlabelled)]
        return self._learnt[1]

    def model(self, config: ErnieConfig) -> nn.Layer:
        return self._task.model(config)

    def scores(self, model: nn.Layer, batch: TaskBatch) -> tuple[Tensor, ...]:
        return self._task.scores(model, batch)

    def loss_of(self, scores: tuple[Tensor, ...], batch: TaskBatch) -> Tensor:
        return self._task.loss_of(scores, batch)

    def distributions(self, scores: tuple[Tensor, ...], batch: TaskBatch) -> Predicted:
        return self._task.distributions(scores, batch)

    def outputs(self, model: nn.Layer, batch: TaskBatch) -> list[Any]:
        return self._task.outputs(model, batch)

    def predictions(self, examples: Sequence[Any], rows: Sequence[Any], outputs: Sequence[Any]) -> list[Any]:
        return self._task.predictions(examples, rows, outputs)

    def figures(self, examples: Sequence[Any], predictions: Sequence[Any]) -> dict[str, Any]:
        return self._task.figures(examples, predictions)

    def loss(self, model: nn.Layer, batch: TaskBatch) -> Tensor:
        """The weighted sum of the task's loss, that of probabilities and that of relations."""
        settings = self._settings
        with record_attention(model.ernie.encoder) as seen:
            scores = self._task.scores(model, batch)
        loss = paddle.zeros([])
        if settings.hard_weight:
            loss = loss + settings.hard_weight * self._task.loss_of(scores, batch)
        if not settings.relations_weight:
            return loss + settings.logits_weight * self._soft(scores, batch, self._kept(batch))
        predicted, states = self._ask(batch)
        if settings.logits_weight:
            loss = loss + settings.logits_weight * self._soft(scores, batch, predicted.logits)
        return loss + settings.relations_weight * self._relations(seen.states(), states, batch)

    def _soft(self, scores: tuple[Tensor, ...], batch: TaskBatch, teacher: Tensor) -> Tensor:
        logits = self._task.distributions(scores, batch).logits
        return paddle.mean(soft_losses(logits, teacher, self._settings.temperature))

    def _relations(self, student: States, teachers: Sequence[States], batch: TaskBatch) -> Tensor:
        lengths = np.array([len(row.input_ids) for row in batch.rows])
        real = paddle.to_tensor((np.arange(batch.input_ids.shape[1]) < lengths[:, None]).astype(np.float32))
        losses = [relation_losses(student, each, self._settings.relation_heads, real) for each in teachers]
        return paddle.add_n(losses).sum() / (len(losses) * int(lengths.sum()))

    @paddle.no_grad()
    def _ask(self, batch: TaskBatch) -> tuple[Predicted, list[States]]:
        """The teachers' log-probabilities, averaged, and the states of each at the layer that teaches."""
        logits, states = [], []
        for teacher in self._teachers:
            with record_attention(teacher.model.ernie.encoder, self._settings.teacher_layer) as seen:
                predicted = self._task.distributions(self._task.scores(teacher.model, batch), batch)
            logits.append(predicted.logits)
            states.append(seen.states())
        return Predicted(averaged_log_probabilities(logits, self._settings.temperature), predicted.counts), states

    def _kept(self, batch: TaskBatch) -> Tensor:
        """The teachers' log-probabilities of the batch, from what they said of all rows before the first step.

        They say the same of a row in every epoch. Relations are too large to keep, so where these are learnt the
        teachers are asked at every step.
        """
        if not self._said:
            log.info("the teacher reads the %d rows that are learnt, once", len(self._learnt[1]))
            with Progress("teacher", len(self._learnt[1]), unit="row") as progress:
                # In an order of their own: what a row is filled up to changes the last bits, and a run that is resumed
                # must find the same.
                for rows in batches(self._learnt[1], TEACHER_BATCH, None):
                    predicted, _ = self._ask(TaskBatch.of(rows, self._pad))
                    parts = np.split(predicted.logits.numpy(), np.cumsum(predicted.counts)[:-1])
                    self._said |= {id(row): part for row, part in zip(rows, parts, strict=True)}
                    progress.add(len(rows))
        parts = [self._said[id(row)] for row in batch.rows]
        # Where the classes are positions, those of padding were pushed out, and there may be more or fewer of them now.
        width = len(self.labels) or batch.input_ids.shape[1]
        kept = np.full((sum(map(len, parts)), width), PUSHED_OUT, dtype=np.float32)
        place = 0
        for part in parts:
            shown = min(width, part.shape[1])
            kept[place : place + len(part), :shown] = part[:, :shown]
            place += len(part)
        return paddle.to_tensor(kept)
