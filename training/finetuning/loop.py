"""Finetuning: the training loop of all tasks.

The order of the examples and dropout follow from (seed, step), so a run that resumes from a checkpoint ends with the
same weights, bit for bit, as one that was never interrupted.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

from model_build.config import ErnieConfig
from model_build.weights import left_at_random, load_state
from training.finetuning.settings import FinetuneRunSettings, FinetuneSettings
from training.runs import mixed_precision
from training.runs.checkpoints import Checkpoints
from training.runs.initial_weights import digest_of
from training.runs.interruption import InterruptedRun, interruption
from training.runs.learning_rate import learning_rate
from training.runs.optimizer_step import OptimizerStep, StepSettings
from training.runs.progress import Progress
from training.runs.records import Records
from training.tasks.task import Row, Task, TaskBatch, batches

log = logging.getLogger(__name__)

EVALUATION_BATCH = 64
REMEDY = "with another --output, and a lower --learning-rate or a higher --warmup-ratio"
Weights = Mapping[str, Any]


@dataclass(frozen=True)
class FinetuneRun:
    """The inputs of a finetuning run."""

    task: Task
    config: ErnieConfig
    examples: Mapping[str, Sequence[Any]]
    """by part: "train" is trained on, "dev" selects the best weights; other parts are not used"""
    pretrained: Weights | None
    """weights by name; None: random weights. The head is always randomly initialised"""
    settings: FinetuneSettings
    output: Path
    """folder: checkpoints/, records.jsonl, evaluations.jsonl"""
    run_settings: FinetuneRunSettings = dataclasses.field(default_factory=FinetuneRunSettings)
    distillation: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """JSON: teachers and settings of a distillation; part of the run's identity"""


@dataclass(frozen=True)
class Finetuned:
    """The model with the best weights on the development examples, in evaluation mode."""

    model: nn.Layer
    step: int
    """the step after which the weights were the best"""
    figures: Mapping[str, float]
    """metrics on the development examples at that step"""
    evaluations: Sequence[Mapping[str, Any]]
    """all evaluations, each with its "step" """


def finetune(run: FinetuneRun) -> Finetuned:
    """Trains, and returns the model with the best weights on the development examples.

    Raises ValueError if a checkpoint does not fit the run, DivergedError if the gradients stay infinite, and
    InterruptedRun after SIGTERM or SIGINT, when a checkpoint has been written.
    """
    mixed_precision.check(run.settings.precision)
    with FinetuningLoop(run) as loop, interruption() as stop:
        while not loop.is_finished():
            loop.train_step()
            due = loop.evaluation_is_due()
            if due:
                loop.evaluate()
            if due or stop.is_set() or loop.save_is_due():
                loop.save()
            if stop.is_set() and not loop.is_finished():
                raise InterruptedRun(f"stopped after step {loop.step}, which is saved; run the same command to resume.")
        return loop.finish()


class FinetuningLoop:
    """The state of a run, with its operations: optimiser step, evaluation, checkpoint."""

    def __init__(self, run: FinetuneRun) -> None:
        self.run, self.task, self.settings = run, run.task, run.settings
        examples = run.examples
        self.rows = {"train": run.task.training_rows(examples["train"]), "dev": run.task.rows(examples["dev"])}
        self.model = _initial_model(run)
        self.epoch_steps = -(-len(self.rows["train"]) // self.settings.batch_size)
        self.steps = self.settings.epochs * self.epoch_steps
        self.optimizer_step = OptimizerStep(self.model, self._step_settings())
        self.evaluate_every = self.settings.evaluate_every or self.epoch_steps
        self.step = 0
        self.best: dict[str, Any] | None = None
        """step and metrics of the best evaluation"""
        self.best_weights: dict[str, np.ndarray] = {}
        self._losses: list[float] = []
        self._epoch, self._order = -1, list[Sequence[Row]]()
        self.records = Records(run.output / "records.jsonl")
        self.evaluations = Records(run.output / "evaluations.jsonl")
        self.checkpoints = Checkpoints(run.output / "checkpoints", self._identity(), keep=1)
        self._resume()
        self._progress = Progress("finetune", self.steps, self.step, unit="step")

    def __enter__(self) -> FinetuningLoop:
        self._progress.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._progress.__exit__(*error)
        self.checkpoints.close()
        self.records.close()
        self.evaluations.close()

    def _step_settings(self) -> StepSettings:
        settings = self.settings
        warmup_steps = max(1, round(settings.warmup_ratio * self.steps))
        schedule = functools.partial(
            learning_rate,
            peak=settings.learning_rate, minimum=0.0, warmup_steps=warmup_steps, decay_steps=self.steps + 1,
        )  # fmt: skip
        return StepSettings(
            settings.precision, settings.seed, settings.weight_decay, settings.clip_norm, schedule,
            self.run.run_settings.most_bad_steps, REMEDY,
        )  # fmt: skip

    def _identity(self) -> dict[str, Any]:
        """Everything that the weights depend on."""
        return {
            "task": self.task.name,
            "labels": list(self.task.labels),
            "config": self.run.config.to_dict(),
            "settings": dataclasses.asdict(self.settings),
            "examples": {part: _digest(self.run.examples[part], rows) for part, rows in self.rows.items()},
            "pretrained": digest_of(self.run.pretrained) if self.run.pretrained is not None else None,
            "versions": {"paddle": paddle.__version__},
            **({"distillation": self.run.distillation} if self.run.distillation else {}),
        }

    def _resume(self) -> None:
        """Resumes from the latest checkpoint, if there is one. Raises ValueError if --no-resume forbids it."""
        saved = self.checkpoints.latest()
        if saved and not self.run.run_settings.resume:
            raise ValueError(
                f"there are checkpoints in {self.checkpoints.directory}; leave out --no-resume to resume from them, "
                "remove them, or choose another --output."
            )
        if saved:
            self.step, self.best, self._losses = saved.step, saved.state["best"], saved.state["losses"]
            if self.best:
                with np.load(saved.directory / "best.npz") as best:
                    self.best_weights = dict(best)
        if saved and not self.is_finished():
            load_state(self.model, paddle.load(str(saved.directory / "model_state.pdparams"), return_numpy=True))
            self.optimizer_step.restore(saved.directory, saved.state["loss_scale"])
            log.info("resuming after step %d from %s", self.step, saved.directory)
        for records in (self.records, self.evaluations):
            records.cut(self.step)

    def is_finished(self) -> bool:
        """Whether all steps are done, or the last `patience` evaluations brought no better result."""
        if self.step >= self.steps:
            return True
        waited = self.step - self.best["step"] if self.best else 0
        return bool(self.settings.patience) and waited >= self.settings.patience * self.evaluate_every

    def evaluation_is_due(self) -> bool:
        return self.step % self.evaluate_every == 0 or self.step == self.steps

    def save_is_due(self) -> bool:
        return bool(self.run.run_settings.save_every) and self.step % self.run.run_settings.save_every == 0

    def _batch(self) -> TaskBatch:
        """The batch of the next step; every epoch has a different order."""
        epoch, place = divmod(self.step, self.epoch_steps)
        if epoch != self._epoch:
            rng = np.random.default_rng((self.settings.seed, epoch))
            self._epoch, self._order = epoch, batches(self.rows["train"], self.settings.batch_size, rng)
        return TaskBatch.of(self._order[place], self.run.config.pad_token_id)

    def train_step(self) -> None:
        """One optimiser step."""
        batch = self._batch()
        taken = self.optimizer_step.take(
            self.step, [batch], lambda piece: paddle.reshape(self.task.loss(self.model, piece), [1]), [1.0]
        )
        self.step += 1
        self._losses.append(float(taken.sums[0]))
        self._record(taken.learning_rate, taken.gradient_norm)

    def _record(self, rate: float, norm: float) -> None:
        mean = sum(self._losses) / len(self._losses)
        if self.step % self.run.run_settings.log_every == 0 or self.step == self.steps:
            self.records.append({"step": self.step, "loss": mean, "learning_rate": rate, "gradient_norm": norm})
            self._losses = []
        self._progress.add(1, f"loss {mean:.3f}")

    def evaluate(self) -> None:
        """Records the metrics on the development examples, and keeps the weights if they are the best."""
        examples = self.run.examples["dev"]
        predictions = predict(self.task, self.model, examples, self.rows["dev"], self.run.config.pad_token_id)
        found = self.task.figures(examples, predictions)
        figures = {name: found[name] for name in self.task.metrics}
        self.evaluations.append({"step": self.step, **figures})
        log.info("step %d, dev: %s", self.step, ", ".join(f"{name} {value:.4f}" for name, value in figures.items()))
        metric = self.settings.metric or self.task.metrics[0]
        if self.best is None or figures[metric] > self.best["figures"][metric]:
            self.best = {"step": self.step, "figures": figures}
            self.best_weights = {name: value.numpy() for name, value in self.model.state_dict().items()}

    def save(self) -> None:
        """Writes a checkpoint of this step."""
        state = {"best": self.best, "losses": self._losses, "loss_scale": self.optimizer_step.scale.state()}
        self.checkpoints.save(self.step, state, self._write)

    def _write(self, folder: Path) -> None:
        """Writes the best weights, and unless the run is finished, the current weights and the optimiser."""
        if self.best:
            np.savez(folder / "best.npz", **self.best_weights)
        if not self.is_finished():
            paddle.save(self.model.state_dict(), str(folder / "model_state.pdparams"))
            self.optimizer_step.write(folder)

    def finish(self) -> Finetuned:
        """The model with the best weights."""
        assert self.best is not None  # the last step was evaluated
        load_state(self.model, self.best_weights)
        self.model.eval()
        return Finetuned(self.model, self.best["step"], self.best["figures"], self.evaluations.read())


@paddle.no_grad()
def predict(task: Task, model: nn.Layer, examples: Sequence[Any], rows: Sequence[Row], pad: int) -> list[Any]:
    """One prediction for each example, from its rows; leaves the model in evaluation mode. `pad` is the padding id."""
    model.eval()
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].input_ids))
    outputs: list[Any] = [None] * len(rows)
    for start in range(0, len(order), EVALUATION_BATCH):
        chosen = order[start : start + EVALUATION_BATCH]
        found = task.outputs(model, TaskBatch.of([rows[index] for index in chosen], pad))
        for index, output in zip(chosen, found, strict=True):
            outputs[index] = output
    return task.predictions(examples, rows, outputs)


def _initial_model(run: FinetuneRun) -> nn.Layer:
    """The model before the first step; its head is randomly initialised."""
    dropout = run.settings.dropout
    paddle.seed(run.settings.seed)
    model = run.task.model(
        dataclasses.replace(run.config, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    )
    if run.pretrained is not None:
        # A head of another task may have the same name and size, but other classes.
        state = {name: value for name, value in run.pretrained.items() if not name.startswith("classifier.")}
        load_state(model, state, new_heads=("classifier.", "ernie.pooler."))
        log.info("randomly initialised, because not pretrained: %s", ", ".join(left_at_random(model, state)))
    return model


def _digest(examples: Sequence[Any], rows: Sequence[Row]) -> str:
    """SHA-256 of examples and rows, in order."""
    digest = hashlib.sha256()
    for each in (*examples, *rows):
        digest.update(repr(each).encode())
    return digest.hexdigest()
