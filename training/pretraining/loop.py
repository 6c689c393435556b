"""Pretraining with masked LM and sentence order: the training loop.

All random numbers follow from (seed, step, rank): samples and masks from their position, dropout from a separate seed
for each step. So a run that resumes from a checkpoint ends with the same weights, bit for bit, as one that was never
interrupted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import paddle

import native
from model_build.checkpoint import Checkpoint, save_checkpoint, write_checkpoint
from model_build.config import ErnieConfig
from model_build.heads import ErnieForPretraining
from model_build.weights import load_state, read_weights
from training.corpus.blending import parse_blend
from training.distilling.distilled_pretraining import DistilledPretraining
from training.distilling.teachers import (
    Distillation,
    Student,
    Teacher,
    distillation_identity,
    parameter_count,
    pretrained_teacher,
)
from training.pretraining.data import PretrainingData, open_data
from training.pretraining.evaluation import evaluate
from training.pretraining.filled_samples import FilledSample, filled_samples
from training.pretraining.initial_model import identity_of, initial_model
from training.pretraining.masked_batches import MaskedBatch
from training.pretraining.micro_batches import micro_batches
from training.pretraining.objectives import Objective, Pretraining, Targets, logits
from training.pretraining.run_log import RunLog, StepFigures
from training.pretraining.settings import PretrainRunSettings, PretrainSettings
from training.runs import data_parallel, mixed_precision
from training.runs.checkpoints import Checkpoints
from training.runs.data_parallel import ProcessGroup
from training.runs.interruption import InterruptedRun, interruption
from training.runs.learning_rate import learning_rate
from training.runs.optimizer_step import OptimizerStep, StepSettings

log = logging.getLogger(__name__)

REMEDY = (
    "from an earlier checkpoint: --start OUTPUT/checkpoints/step-…, another --output, and a lower --learning-rate or a "
    "longer warm-up"
)


@dataclass(frozen=True)
class PretrainJob:
    """The inputs of a pretraining run."""

    corpora: Sequence[str]
    """prefixes, optionally with a weight before each; see `open_data`"""
    vocab: Path
    output: Path
    """folder for checkpoints/, model/ (at the end) and the files of `RunLog`"""
    config: ErnieConfig
    settings: PretrainSettings
    run_settings: PretrainRunSettings = field(default_factory=PretrainRunSettings)
    start: str | None = None
    """a PaddleNLP name, a folder or file of weights; None: random weights"""
    provenance: dict[str, Any] = field(default_factory=dict)
    """further provenance for the checkpoint, such as the overlap with evaluation texts"""
    distillation: Distillation | None = None
    """teachers and their losses; None: no distillation"""


def pretrain(job: PretrainJob) -> Checkpoint:
    """Trains, and writes the last weights to `output/model`, the input of `finetune` and `ernie-build export`.

    Raises ValueError if corpora, vocabulary, shape and an earlier checkpoint do not fit together, DivergedError if the
    gradients stay infinite, and InterruptedRun after SIGTERM or SIGINT, when a checkpoint has been written.
    """
    settings, run_settings = job.settings, job.run_settings
    group = data_parallel.join()
    mixed_precision.check(settings.precision)
    data = open_data(
        job.corpora, job.vocab, job.config, settings,
        evaluation_samples=run_settings.evaluation_samples, threads=run_settings.threads,
        cache=job.output / "samples", group=group,
    )  # fmt: skip
    teachers = _teachers(job)
    with _checkpoints(job, data, group, teachers) as checkpoints, interruption() as stop:
        run = PretrainingLoop(job, data, group, checkpoints, teachers)
        run.resume()
        with run.log or contextlib.nullcontext():
            for batch in data.train.iterate(
                run.samples, settings.steps * settings.batch_size, threads=run_settings.threads
            ):
                # All processes stop after the same step: the flag is summed over processes in `train_step`.
                stopping = run.train_step(batch, stop.is_set())
                last = run.step == settings.steps
                if last or (run_settings.evaluate_every and run.step % run_settings.evaluate_every == 0):
                    run.evaluate()
                if last or stopping or run.step % run_settings.save_every == 0:
                    run.save()
                if stopping and not last:
                    raise InterruptedRun(
                        f"stopped after step {run.step}, which is saved; run the same command to resume."
                    )
            return run.finish()


class PretrainingLoop:
    """The state of a run, with its operations: optimiser step, evaluation, checkpoint."""

    def __init__(
        self,
        job: PretrainJob,
        data: PretrainingData,
        group: ProcessGroup,
        checkpoints: Checkpoints,
        teachers: Sequence[Teacher] = (),
    ) -> None:
        self.job, self.data, self.group, self.checkpoints = job, data, group, checkpoints
        self.teachers = teachers
        self.objective: Objective = Pretraining()
        if job.distillation:
            self.objective = DistilledPretraining(teachers, job.distillation.settings)
        self.step = 0
        self.samples = 0
        """samples seen by all processes: the position of the next batch"""
        self.tokens = 0
        """tokens seen by all processes, without padding"""
        self.model: ErnieForPretraining = initial_model(job.config, job.settings, job.start)
        group.share_weights(self.model)
        self.optimizer_step = OptimizerStep(self.model, _step_settings(job), group)
        self.log: RunLog | None = None

    def resume(self) -> None:
        """Resumes from the latest checkpoint, if there is one, and opens the log.

        Raises ValueError for a checkpoint that the run may not resume from.
        """
        if not self.job.run_settings.resume and any(self.checkpoints.directory.glob("step-*")):
            raise ValueError(
                f"there are checkpoints in {self.checkpoints.directory}; leave out --no-resume to resume from them, "
                "remove them, or choose another --output."
            )
        saved = self.checkpoints.latest()
        if saved:
            load_state(self.model, read_weights(saved.directory))
            self.optimizer_step.restore(saved.directory, saved.state["loss_scale"])
            self.step, self.samples, self.tokens = saved.step, saved.state["samples"], saved.state["tokens"]
            log.info("resuming after step %d from %s", self.step, saved.directory)
            self._compare_machine(saved.state)
        if self.step > self.job.settings.steps:
            raise ValueError(
                f"{self.job.output} has {self.step} steps already, more than --steps {self.job.settings.steps}."
            )
        steps, squares = self.group.sum([self.step, self.step**2])
        if squares * self.group.size != steps**2:  # equal only if all steps are equal
            raise ValueError(
                f"the processes found different checkpoints (step {self.step} here, {steps / self.group.size:g} on "
                f"average); put {self.job.output} on a file system that all machines share."
            )
        if self.group.is_leader:
            self.log = RunLog(
                self.job.output, f"Pretraining, {self.job.output.name}", _effective(self.job), self.step,
                self.job.settings.steps, self.job.run_settings.log_every,
                [StepFigures(**each) for each in saved.state["unrecorded"]] if saved else [],
            )  # fmt: skip

    def _compare_machine(self, state: Mapping[str, Any]) -> None:
        """Warns if the number of threads (it changes rounding) or of processes (it changes dropout) is different."""
        now = _machine(self.group)
        if differing := [f"{name} {state[name]}, now {now[name]}" for name in now if state[name] != now[name]]:
            log.warning(
                "the run began with %s: it continues on the same data, but its weights differ in the last bits",
                ", ".join(differing),
            )

    def train_step(self, batch: MaskedBatch, stop: bool = False) -> bool:
        """One optimiser step on this process's share of a batch; returns whether any process was asked to stop."""
        settings = self.job.settings
        pieces = micro_batches(batch, settings.micro_tokens)
        targets = Targets.of(batch, self.group)
        taken = self.optimizer_step.take(
            self.step, pieces, lambda piece: self.objective.sums(self.model, piece), self.objective.factors(targets)
        )
        self.step += 1
        self.samples = batch.next_position
        positions = sum(piece.input_ids.size for piece in pieces)
        *summed, tokens, positions, stops = self.group.sum([*taken.sums, batch.lengths.sum(), positions, stop])
        self.tokens += int(tokens)
        if self.log:
            figures = StepFigures(
                summed[0] / targets.tokens,
                summed[1] / max(1.0, targets.pairs) if settings.sentence_order else None,
                taken.learning_rate, taken.gradient_norm, int(tokens), int(positions), settings.batch_size,
                **self._distillation_losses(summed, targets),
            )  # fmt: skip
            scale = self.optimizer_step.scale
            self.log.add(figures, tokens=self.tokens, skipped_steps=scale.skipped, loss_scale=scale.value)
        return bool(stops)

    def _distillation_losses(self, sums: Sequence[float], targets: Targets) -> dict[str, float]:
        """The total loss of a distillation, and the losses on the teachers' outputs; empty without teachers."""
        if not self.job.distillation:
            return {}
        settings = self.job.distillation.settings
        means = {"logits": sums[2] / targets.tokens, "relations": sums[3] / targets.positions}
        minimised = float(np.dot(sums, self.objective.factors(targets)))
        return {"minimised": minimised} | {
            name: mean for name, mean in means.items() if getattr(settings, f"{name}_weight")
        }

    def evaluate(self) -> None:
        """Logs metrics on the validation split, such as `word/top1`, and filled-in sample sentences."""
        paused = self.log.pause_clock() if self.log else 0.0
        figures = {
            f"{level}/{name}": value
            for level, batches in self.data.validation.items()
            for name, value in evaluate(self.model, batches.at(0), self.group, self.job.settings.micro_tokens).items()
        }
        if self.log:
            self.log.evaluated(figures, self._filled_samples())
        self.group.wait()
        if self.log:
            self.log.resume_clock(paused)

    def _filled_samples(self, count: int = 10) -> list[FilledSample]:
        """Filled-in samples of the validation split, or without one of the first training batch."""
        batches = self.data.validation.get("word", self.data.train)
        return filled_samples(batches.at(0), self.data.tokens, self._predict, count)

    @paddle.no_grad()
    def _predict(self, batch: MaskedBatch) -> np.ndarray:
        self.model.eval()
        found = logits(self.model, batch)[0].numpy()
        self.model.train()
        return found

    def save(self) -> None:
        """Writes a checkpoint of this step in the leading process; the others wait for it."""
        paused = self.log.pause_clock() if self.log else 0.0
        if self.group.is_leader:
            state = {
                "samples": self.samples,
                "tokens": self.tokens,
                "loss_scale": self.optimizer_step.scale.state(),
                "unrecorded": [dataclasses.asdict(each) for each in self.log.unrecorded] if self.log else [],
                **_machine(self.group),
            }
            self.checkpoints.save(self.step, state, self._write)
        self.group.wait()
        if self.log:
            self.log.resume_clock(paused)

    def _write(self, folder: Path) -> None:
        write_checkpoint(folder, self._about([]), self.model.state_dict(), self.job.vocab, self.data.sentences)
        self.optimizer_step.write(folder)

    def _about(self, evaluations: list[dict[str, Any]]) -> Checkpoint:
        return Checkpoint(
            self.job.config,
            "fill-mask",
            self.job.config.max_position_embeddings,
            evaluation={"validation": evaluations[-1]} if evaluations else {},
            provenance={
                "pretraining": dataclasses.asdict(self.job.settings),
                "steps": self.step,
                "samples": self.samples,
                "tokens": self.tokens,
                "corpus_names": [Path(prefix).name for _, prefix in parse_blend(self.job.corpora)],
                **self.data.description,
                **_distillation_of(self.job, self.teachers, self.model),
                **self.job.provenance,
            },
            tokenizer=self.data.tokenizer,
        )

    def finish(self) -> Checkpoint:
        """Writes `output/model` with the metrics of the last evaluation."""
        about = self._about(self.log.evaluations() if self.log else [])
        if self.group.is_leader:
            for leftover in self.job.output.glob(".model.*"):  # left by a run that was killed while writing the model
                shutil.rmtree(leftover)
            save_checkpoint(self.job.output / "model", about, self.model, self.job.vocab, self.data.sentences)
        self.group.wait()
        return about


def _step_settings(job: PretrainJob) -> StepSettings:
    settings = job.settings
    schedule = functools.partial(
        learning_rate,
        peak=settings.learning_rate, minimum=settings.min_learning_rate,
        warmup_steps=settings.last_warmup_step, decay_steps=settings.last_decay_step,
    )  # fmt: skip
    return StepSettings(
        settings.precision, settings.seed, settings.weight_decay, settings.clip_norm, schedule,
        job.run_settings.most_bad_steps, REMEDY, settings.beta2,
    )  # fmt: skip


def _machine(group: ProcessGroup) -> dict[str, int]:
    """What the last bits of the weights depend on, in addition to the identity of the run."""
    return {"processes": group.size, "threads": int(os.environ.get("OMP_NUM_THREADS", "1"))}


def _teachers(job: PretrainJob) -> list[Teacher]:
    """The teachers. Raises ValueError for one that does not fit the student."""
    if not job.distillation:
        return []
    student = Student(job.config, job.vocab, job.settings.max_seq_length)
    return [pretrained_teacher(each, student, job.distillation.settings) for each in job.distillation.teachers]


def _distillation_of(job: PretrainJob, teachers: Sequence[Teacher], model: ErnieForPretraining) -> dict[str, Any]:
    """Teachers and settings of the distillation, for the checkpoint; empty without teachers."""
    if not job.distillation:
        return {}
    return {
        "distillation": {
            "settings": dataclasses.asdict(job.distillation.settings),
            "parameters": parameter_count(model),
            "teachers": [each.described() for each in teachers],
        }
    }


def _checkpoints(
    job: PretrainJob, data: PretrainingData, group: ProcessGroup, teachers: Sequence[Teacher]
) -> Checkpoints:
    """The checkpoints of the run. The leading process opens them first, because it makes the folder."""
    settings = dataclasses.asdict(job.settings)
    # A run with more steps is the same run if its learning-rate schedule is the same.
    for name in ("steps", "warmup_steps", "decay_steps"):
        del settings[name]
    settings |= {"warmup_steps": job.settings.last_warmup_step, "decay_steps": job.settings.last_decay_step}
    identity = {
        "settings": settings,
        "config": job.config.to_dict(),
        "start": identity_of(job.start),
        **data.description,
        "versions": {"paddle": paddle.__version__, "native": native.version()},
        **({"distillation": distillation_identity(teachers, job.distillation.settings)} if job.distillation else {}),
    }
    if not group.is_leader:
        group.wait()
    opened = Checkpoints(
        job.output / "checkpoints", identity, writer=group.is_leader,
        keep=job.run_settings.keep, milestone_every=job.run_settings.milestone_every,
    )  # fmt: skip
    if group.is_leader:
        group.wait()
    return opened


def _effective(job: PretrainJob) -> dict[str, Any]:
    """The effective settings, for the report."""
    return {
        "corpora": " ".join(job.corpora),
        "vocabulary": str(job.vocab),
        "start": job.start or "random weights",
        **dataclasses.asdict(job.settings),
        "warmup_steps": job.settings.last_warmup_step,
        "decay_steps": job.settings.last_decay_step,
        **dataclasses.asdict(job.run_settings),
        **{name: value for name, value in job.config.to_dict().items() if "dropout" not in name},
        **_teacher_settings(job),
    }


def _teacher_settings(job: PretrainJob) -> dict[str, Any]:
    if not job.distillation:
        return {}
    teachers = " ".join(map(str, job.distillation.teachers))
    return {"teachers": teachers, **dataclasses.asdict(job.distillation.settings)}
