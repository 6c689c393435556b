"""The teachers of a distillation: models in folders, checked against the student before training starts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from paddle import nn

from model_build.bundle import read_vocabulary
from model_build.checkpoint import load_checkpoint_state, model_of, read_checkpoint
from model_build.config import ErnieConfig
from model_build.heads import ErnieForPretraining
from model_build.weights import load_state, read_weights
from training.datasets.examples import Example
from training.distilling.losses import check_relations
from training.distilling.settings import DistillSettings
from training.runs.initial_weights import config_of, digest_of
from training.tasks.multi_label import MultiLabelClassification
from training.tasks.task import Task


@dataclass(frozen=True)
class Distillation:
    """The teachers and losses of a distillation."""

    teachers: Sequence[Path]
    """folders; the student learns the mean of their probabilities, and the mean loss on their relations"""
    settings: DistillSettings
    unlabelled: Sequence[Example] = ()
    """classification: texts on which only the teachers' outputs are learnt; their labels are ignored"""


@dataclass(frozen=True)
class Teacher:
    """A teacher model, in evaluation mode and without gradients."""

    directory: Path
    model: nn.Layer
    weights: str
    """digest of the weights"""
    evaluation: Mapping[str, Any]
    """the metrics that are stored in its folder"""

    def described(self) -> dict[str, Any]:
        """JSON for results and provenance."""
        return {
            "name": self.directory.absolute().name,
            "weights": self.weights,
            "parameters": parameter_count(self.model),
            "evaluation": dict(self.evaluation),
        }


@dataclass(frozen=True)
class Student:
    """The properties of the student that a teacher must fit."""

    config: ErnieConfig
    vocab: Path
    max_seq_length: int


def distillation_identity(teachers: Sequence[Teacher], settings: DistillSettings) -> dict[str, Any]:
    """JSON: what the student's weights depend on because of the distillation."""
    return {"teachers": [each.weights for each in teachers], "settings": asdict(settings)}


def parameter_count(model: nn.Layer) -> int:
    """Number of parameters of a model; a parameter that two layers share counts once."""
    return sum(int(np.prod(each.shape)) for each in model.parameters())


def finetuned_teacher(directory: Path, task: Task, student: Student, settings: DistillSettings) -> Teacher:
    """A finetuned model, from `finetune` or PaddleNLP, with its head in the order of the task's labels.

    Raises ValueError (CheckpointError, WeightsError) for a folder without such a model, another task, other labels or
    another vocabulary, and if lengths, layers or widths do not fit.
    """
    about = read_checkpoint(directory)
    if about.task != task.name:
        raise ValueError(
            f"--teacher {directory} is for {about.task}, not for {task.name}; give a teacher of the same task."
        )
    if (about.scores == "sigmoid") != isinstance(task, MultiLabelClassification) and task.name == "classify":
        raise ValueError(
            f"--teacher {directory} is {'' if about.scores == 'sigmoid' else 'not '}multi-label; give --multi-label if "
            "teacher and examples both are, and leave it out if neither is."
        )
    _check(directory, about.config, student, settings)
    state = read_weights(directory)
    if task.labels:
        order = _order(directory, task.labels, about.provenance.get("labels", about.labels))
        state = {name: value[..., order] if name.startswith("classifier.") else value for name, value in state.items()}
    weights = digest_of(state)  # after reordering: renamed labels are another teacher
    model = model_of(about, directory)
    load_checkpoint_state(model, about, state)
    return Teacher(directory, _frozen(model), weights, about.evaluation)


def pretrained_teacher(directory: Path, student: Student, settings: DistillSettings) -> Teacher:
    """The encoder of any folder with weights, with its masked-LM head if its probabilities are to be learnt.

    Raises ValueError (ConfigError, WeightsError) for a folder that lacks a needed file or head, another vocabulary, and
    if lengths, layers or widths do not fit.
    """
    if not directory.is_dir():
        raise ValueError(f"--teacher {directory} is not a folder; give one with config.json, model_state.pdparams "
                         "and vocab.txt.")  # fmt: skip
    config = config_of(str(directory), "--teacher")
    _check(directory, config, student, settings)
    state = read_weights(directory)
    if settings.logits_weight and not any(name.startswith("cls.predictions.") for name in state):
        raise ValueError(
            f"--teacher {directory} has no masked-LM head, so it has no probabilities to learn; give --logits-weight 0 "
            "to learn only its relations."
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
    """Raises ValueError if teacher and student cannot read the same rows, or if relations cannot be compared."""
    vocab = directory / "vocab.txt"
    if not vocab.is_file():
        raise ValueError(f"{vocab} does not exist; put the teacher's vocabulary there.")
    if read_vocabulary(vocab) != read_vocabulary(student.vocab):
        raise ValueError(
            f"teacher and student must have the same vocabulary, but {vocab} and {student.vocab} differ; give a "
            "student with the teacher's vocabulary."
        )
    if student.max_seq_length > config.max_position_embeddings:
        raise ValueError(
            f"--max-seq-length {student.max_seq_length} is longer than the {config.max_position_embeddings} positions "
            f"of --teacher {directory}; lower it."
        )
    if settings.relations_weight:
        check_relations(settings, config, student.config, f"--teacher {directory}")


def _order(directory: Path, labels: Sequence[str], theirs: Sequence[str]) -> list[int]:
    """The index of each label in the teacher's head; labels are named as in the training files."""
    if sorted(theirs) != sorted(labels):
        raise ValueError(
            f"--teacher {directory} has the labels {', '.join(sorted(theirs)[:20])}, but the training examples have "
            f"{', '.join(sorted(labels)[:20])}; teacher and student must have the same."
        )
    return [list(theirs).index(label) for label in labels]
