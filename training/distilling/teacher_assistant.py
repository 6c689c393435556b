"""Runs a distillation, optionally with a teacher assistant between teacher and student.

Source: Mirzadeh et al., "Improved knowledge distillation via teacher assistant" (arXiv:1902.03393): a student that is
much smaller than its teacher learns more from a model of intermediate size.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from pathlib import Path

from model_build.checkpoint import Checkpoint
from model_build.config import ErnieConfig
from training.distilling.losses import check_relations
from training.distilling.student import new_student
from training.finetuning.job import FinetuneJob, run_job
from training.finetuning.starting_point import starting_point
from training.pretraining.initial_model import with_task_id
from training.pretraining.loop import PretrainJob, pretrain

log = logging.getLogger(__name__)

ASSISTANT = "assistant"
"""Folder of the assistant's output inside the output folder of the student."""


Job = FinetuneJob | PretrainJob


def distill(job: Job, assistant: str | None = None) -> Checkpoint:
    """Runs a job with a distillation, for a task or from corpora.

    `assistant` names a folder with weights, or a published shape. The same job first trains such a model in
    OUTPUT/assistant, which then replaces the teachers. Finished work is not repeated. Raises like `run_job` and
    `pretrain`, and ValueError for an assistant with several processes.
    """
    if assistant is None:
        return _run(job)
    if int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) > 1:
        raise ValueError(
            "--assistant works with one process only; with several, distil the assistant by a separate command first, "
            "and give its model as --teacher of the next one."
        )
    between = _assistant(job, assistant)
    student = _taught_by(job, between)
    log.info("distilling the assistant in %s", between.output)
    _run(between)
    log.info("distilling the student in %s", job.output)
    return _run(student)


def _run(job: Job) -> Checkpoint:
    return run_job(job) if isinstance(job, FinetuneJob) else pretrain(job)


def _assistant(job: Job, name: str) -> Job:
    """The job that trains the assistant."""
    assert job.distillation
    output = job.output / ASSISTANT
    teacher = job.distillation.teachers[0]
    point = starting_point(name) if Path(name).is_dir() else new_student(name, teacher)
    if isinstance(job, FinetuneJob):
        return dataclasses.replace(job, start=point, output=output, flags={})
    config = with_task_id(point.config, job.settings)
    return dataclasses.replace(job, config=config, start=name if point.weights else None, output=output)


def _taught_by(job: Job, assistant: Job) -> Job:
    """The student's job with the last layer of the assistant as teacher. Raises ValueError if widths do not fit."""
    assert job.distillation
    settings = dataclasses.replace(job.distillation.settings, teacher_layer=0)
    if settings.relations_weight:  # checked before the assistant is trained
        check_relations(settings, _config(assistant), _config(job), "--assistant")
    taught = dataclasses.replace(job.distillation, teachers=[assistant.output / "model"], settings=settings)
    return dataclasses.replace(job, distillation=taught)


def _config(job: Job) -> ErnieConfig:
    return job.start.config if isinstance(job, FinetuneJob) else job.config
