"""Whom a student learns from: models on the disk, checked against the student before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from paddle import nn

from model_build.bundle import read_vocabulary
from model_build.checkpoint import model_of, read_checkpoint
from model_build.config import ErnieConfig
from model_build.heads import ErnieForPretraining
from model_build.weights import load_state, read_pdparams
from training.datasets.examples import Example
from training.distilling.losses import check_relations
from training.distilling.settings import DistillSettings
from training.runs.initial_weights import config_of, digest_of
from training.tasks.task import Task


@dataclass(frozen=True)
class Distillation:
    """What makes a training a distillation."""

    teachers: Sequence[Path]
    """folders; the student learns the mean of their probabilities, and the mean of the losses on their relations"""
    settings: DistillSettings
    unlabelled: Sequence[Example] = ()
    """classification: texts that are learnt from the teachers alone, whatever their label says"""


@dataclass(frozen=True)
class Teacher:
    """A model that teaches: in evaluation mode, and without gradients."""

    directory: Path
    model: nn.Layer
    weights: str
    """digest"""
    evaluation: Mapping[str, Any]
    """the figures that its folder tells of it"""

    def described(self) -> dict[str, Any]:
        """JSON for results and provenance: its name, and what it is."""
        return {
            "name": self.directory.absolute().name,
            "weights": self.weights,
            "parameters": parameter_count(self.model),
            "evaluation": dict(self.evaluation),
        }


@dataclass(frozen=True)
class Student:
    """What a teacher has to fit."""

    config: ErnieConfig
    vocab: Path
    max_seq_length: int


def distillation_identity(teachers: Sequence[Teacher], settings: DistillSettings) -> dict[str, Any]:
    """JSON: all that the student's weights follow from beside what they would follow from without a teacher."""
    return {"teachers": [each.weights for each in teachers], "settings": asdict(settings)}


def parameter_count(model: nn.Layer) -> int:
    """How many numbers a model has learnt; a table that two layers share counts once."""
    return sum(int(np.prod(each.shape)) for each in model.parameters())


def finetuned_teacher(directory: Path, task: Task, student: Student, settings: DistillSettings) -> Teacher:
    """The model of a folder that `finetune` or PaddleNLP left, its head in the order of the task's labels.

    Raises ValueError (CheckpointError, WeightsError) for a folder that is no such model, one of another task, other
    labels or another vocabulary, and for lengths, layers and widths that do not go together.
    """
    about = read_checkpoint(directory)
    if about.task != task.name:
        raise ValueError(f"--teacher {directory} is for {about.task}, not for {task.name}.")
    _check(directory, about.config, student, settings)
    state = read_pdparams(directory)
    if task.labels:
        order = _order(directory, task.labels, about.provenance.get("labels", about.labels))
        state = {name: value[..., order] if name.startswith("classifier.") else value for name, value in state.items()}
    weights = digest_of(state)  # with the head in order: labels that are renamed make another teacher
    model = model_of(about, directory)
    load_state(model, state)
    return Teacher(directory, _frozen(model), weights, about.evaluation)


def pretrained_teacher(directory: Path, student: Student, settings: DistillSettings) -> Teacher:
    """The encoder of any folder with weights, with its masked-LM head where probabilities are to be learnt.

    Raises ValueError (ConfigError, WeightsError) for a folder that has not what is needed, another vocabulary, and for
    lengths, layers and widths that do not go together.
    """
    if not directory.is_dir():
        raise ValueError(f"--teacher {directory} is no folder; give one with config.json, model_state.pdparams "
                         "and vocab.txt.")  # fmt: skip
    config = config_of(str(directory), "--teacher")
    _check(directory, config, student, settings)
    state = read_pdparams(directory)
    if settings.logits_weight and not any(name.startswith("cls.predictions.") for name in state):
        raise ValueError(
            f"--teacher {directory} has no masked-LM head, so it has no probabilities to learn; give --logits-weight 0 "
            "to learn its relations alone."
        )
    model = ErnieForPretraining(config, sentence_order=False)
    load_state(model, state, new_heads=("ernie.pooler.", *(() if settings.logits_weight else ("cls.",))))
    path = directory / "config.json"
    about = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return Teacher(directory, _frozen(model), digest_of(state), about.get("evaluation", {}))


def _frozen(model: nn.Layer) -> nn.Layer:
    model.eval()
    for parameter in model.parameters():
        parameter.stop_gradient = True
    return model


def _check(directory: Path, config: ErnieConfig, student: Student, settings: DistillSettings) -> None:
    """Raises ValueError where teacher and student cannot read the same rows, or relations cannot be compared."""
    vocab = directory / "vocab.txt"
    if not vocab.is_file():
        raise ValueError(f"{vocab} does not exist; put the teacher's vocabulary there.")
    if read_vocabulary(vocab) != read_vocabulary(student.vocab):
        raise ValueError(
            f"teacher and student must read the same tokens, but {vocab} and {student.vocab} differ; give a student "
            "with the teacher's vocabulary."
        )
    if student.max_seq_length > config.max_position_embeddings:
        raise ValueError(
            f"--max-seq-length {student.max_seq_length} is longer than the {config.max_position_embeddings} positions "
            f"of --teacher {directory}; lower it."
        )
    if settings.relations_weight:
        check_relations(settings, config, student.config, f"--teacher {directory}")


def _order(directory: Path, labels: Sequence[str], theirs: Sequence[str]) -> list[int]:
    """Where the teacher has each of the labels, under the names of the files that it learnt from."""
    if sorted(theirs) != sorted(labels):
        raise ValueError(
            f"--teacher {directory} has the labels {', '.join(sorted(theirs)[:20])}, but the training examples have "
            f"{', '.join(sorted(labels)[:20])}; teacher and student must have the same."
        )
    return [list(theirs).index(label) for label in labels]
