"""A finetuning task with teachers: rows, metrics and predictions are those of the task; the loss has more terms.

Sources: `training.distilling.losses`. Labels, probabilities and relations together are the last stage of ERNIE-Tiny (Su
et al., arXiv:2106.02241); for unlabelled texts only the teachers' terms are used.
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
    """A `Task` that wraps another one and adds the teachers' losses."""

    def __init__(
        self, task: Task, teachers: Sequence[Teacher], settings: DistillSettings, unlabelled: Sequence[Any], pad: int
    ) -> None:
        """The heads of the teachers have the order of the task's labels; `pad` is the padding id."""
        self.name, self.labels, self.metrics = task.name, task.labels, task.metrics
        self._task, self._teachers, self._settings = task, teachers, settings
        self._unlabelled, self._pad = unlabelled, pad
        self._training_rows: tuple[Any, Sequence[Row]] = (None, [])
        self._teacher_outputs: dict[int, np.ndarray] = {}
        """log-probabilities [n, C] of each training row, by the id() of the row"""

    def rows(self, examples: Sequence[Any]) -> Sequence[Row]:
        return self._task.rows(examples)

    def training_rows(self, examples: Sequence[Any]) -> Sequence[Row]:
        """The rows of the examples, then those of the unlabelled texts; the same objects for the same examples.

        So the teachers are run once for all runs of a job.
        """
        if self._training_rows[0] is not examples:
            self._teacher_outputs = {}
            self._training_rows = examples, [*self._task.training_rows(examples), *self._task.rows(self._unlabelled)]
        return self._training_rows[1]

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
        """The weighted sum of the losses on labels, on probabilities and on relations."""
        settings = self._settings
        with record_attention(model.ernie.encoder) as seen:
            scores = self._task.scores(model, batch)
        loss = paddle.zeros([])
        if settings.hard_weight:
            loss = loss + settings.hard_weight * self._task.loss_of(scores, batch)
        if not settings.relations_weight:
            return loss + settings.logits_weight * self._soft(scores, batch, self._cached_outputs(batch))
        predicted, states = self._run_teachers(batch)
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
    def _run_teachers(self, batch: TaskBatch) -> tuple[Predicted, list[States]]:
        """The averaged log-probabilities of the teachers, and for each the states of the layer to learn from."""
        logits, states = [], []
        for teacher in self._teachers:
            with record_attention(teacher.model.ernie.encoder, self._settings.teacher_layer) as seen:
                predicted = self._task.distributions(self._task.scores(teacher.model, batch), batch)
            logits.append(predicted.logits)
            states.append(seen.states())
        return Predicted(averaged_log_probabilities(logits, self._settings.temperature), predicted.counts), states

    def _cached_outputs(self, batch: TaskBatch) -> Tensor:
        """The averaged log-probabilities of the teachers for the batch, computed for all rows before the first step.

        They are the same in every epoch. Relations are too large to cache, so if they are learnt, the teachers run at
        every step.
        """
        if not self._teacher_outputs:
            log.info("running the teachers on the %d training rows, once", len(self._training_rows[1]))
            with Progress("teacher", len(self._training_rows[1]), unit="row") as progress:
                # In a fixed order: padding changes the last bits, and a resumed run must get the same bits.
                for rows in batches(self._training_rows[1], TEACHER_BATCH, None):
                    predicted, _ = self._run_teachers(TaskBatch.of(rows, self._pad))
                    parts = np.split(predicted.logits.numpy(), np.cumsum(predicted.counts)[:-1])
                    self._teacher_outputs |= {id(row): part for row, part in zip(rows, parts, strict=True)}
                    progress.add(len(rows))
        parts = [self._teacher_outputs[id(row)] for row in batch.rows]
        # If the classes are positions, the batch may now be wider or narrower; padding has probability 0.
        width = parts[0].shape[1] if self.labels else batch.input_ids.shape[1]
        kept = np.full((sum(map(len, parts)), width), PUSHED_OUT, dtype=np.float32)
        place = 0
        for part in parts:
            shown = min(width, part.shape[1])
            kept[place : place + len(part), :shown] = part[:, :shown]
            place += len(part)
        return paddle.to_tensor(kept)
