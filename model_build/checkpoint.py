"""Model checkpoints: one folder with weights, configuration, vocabulary and their description, as training writes it.

model_state.pdparams   weights under PaddleNLP's names
config.json            the fields of ErnieConfig, and "task", "labels", "problem_type" (of a classifier of texts),
                       "max_length", "evaluation", "provenance"
vocab.txt
sentences.txt          real sentences, one on each line, for the parity check of the export
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paddle
from paddle import Tensor, nn

from model_build.atomic_write import atomic_folder
from model_build.bundle import TASKS, Scores, Task
from model_build.config import ErnieConfig
from model_build.heads import (
    ErnieForMaskedLM,
    ErnieForQuestionAnswering,
    ErnieForSequenceClassification,
    ErnieForTokenClassification,
)
from model_build.labels import PROBLEM_TYPES, LabelError, labels_of_folder, scores_of_folder
from model_build.weights import load_state, read_pdparams

LONGEST = 512
"""Default of `max_length`, in tokens, for a model with more positions than this."""
LABELLED: tuple[Task, ...] = ("classify", "token-classification")
PUBLISHED: dict[str, Task] = {
    "ErnieForMaskedLM": "fill-mask",
    "ErnieForPretraining": "fill-mask",
    "ErnieForQuestionAnswering": "question-answering",
    "ErnieForSequenceClassification": "classify",
    "ErnieForTokenClassification": "token-classification",
}
"""The task of each PaddleNLP class that `config.json` can name under `architectures`."""


class CheckpointError(ValueError):
    """A folder that is not a usable checkpoint; the message is one sentence that names the file and the error."""


@dataclass
class Checkpoint:
    """The content of a checkpoint except for weights and vocabulary."""

    config: ErnieConfig
    task: Task
    max_length: int
    labels: list[str] = field(default_factory=list)
    evaluation: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    scores: Scores = "softmax"
    """of a classifier of texts; `config.json` has it as `problem_type`, under PaddleNLP's and Hugging Face's names"""


def save_checkpoint(
    directory: Path, checkpoint: Checkpoint, model: nn.Layer, vocab_path: Path, sentences: list[str]
) -> None:
    """Writes the folder under a temporary name and renames it over an earlier one."""
    with atomic_folder(directory, existing="replace") as folder:
        write_checkpoint(folder, checkpoint, model.state_dict(), vocab_path, sentences)


def write_checkpoint(
    directory: Path, checkpoint: Checkpoint, state: Mapping[str, Tensor], vocab_path: Path, sentences: list[str]
) -> None:
    """Writes the four files of a checkpoint into an existing folder; `state` is the state_dict of the model."""
    paddle.save(state, str(directory / "model_state.pdparams"))
    about = {
        **checkpoint.config.to_dict(),
        "task": checkpoint.task,
        "max_length": checkpoint.max_length,
        "labels": checkpoint.labels,
        **({"problem_type": PROBLEM_TYPES[checkpoint.scores]} if checkpoint.task == "classify" else {}),
        "evaluation": checkpoint.evaluation,
        "provenance": checkpoint.provenance,
    }
    (directory / "config.json").write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    shutil.copyfile(vocab_path, directory / "vocab.txt")
    (directory / "sentences.txt").write_text("".join(line + "\n" for line in sentences), encoding="utf-8")


def read_checkpoint(directory: Path) -> Checkpoint:
    """Reads the `config.json` of a checkpoint folder; the weights are not read.

    A `config.json` of PaddleNLP gives the task in `architectures`; `model_build.labels` names the files with labels and
    scores. Raises CheckpointError if a file is missing, the task is unknown, or labels are unusable, ConfigError if
    `config.json` is invalid.
    """
    for name in ("config.json", "vocab.txt", "model_state.pdparams"):
        if not (directory / name).is_file():
            raise CheckpointError(
                f"{directory / name} is missing; give a folder with config.json, vocab.txt and model_state.pdparams."
            )
    config = ErnieConfig.from_json(directory / "config.json")
    values = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    task = values.get("task") or _published_task(values)
    if task not in TASKS:
        raise CheckpointError(
            f'{directory / "config.json"}: "task" must be {" or ".join(TASKS)}, not {task!r}; set it to the task of '
            "the "
            "model's head."
        )
    labels, scores = _labels_and_scores(directory, values, task)
    return Checkpoint(
        config,
        task,
        int(values.get("max_length", min(config.max_position_embeddings, LONGEST))),
        labels,
        dict(values.get("evaluation", {})),
        dict(values.get("provenance", {})),
        scores,
    )


def _labels_and_scores(directory: Path, values: Mapping[str, Any], task: Task) -> tuple[list[str], Scores]:
    """The labels of a task that has them, and the scores of a classifier of texts; raises CheckpointError."""
    if task not in LABELLED:
        return [], "softmax"
    try:
        labels = labels_of_folder(directory, values, "config.json")
        if task != "classify":
            return labels, "softmax"
        scores = scores_of_folder(directory, values, "config.json")
    except LabelError as error:
        raise CheckpointError(str(error)) from error
    # The softmax of a single output is always 1.
    return labels, "raw" if len(labels) == 1 and scores == "softmax" else scores


def _published_task(values: Mapping[str, Any]) -> str | None:
    """The task of the PaddleNLP class in `architectures`, or None."""
    return next((PUBLISHED[name] for name in values.get("architectures") or [] if name in PUBLISHED), None)


def model_of(checkpoint: Checkpoint, directory: Path) -> nn.Layer:
    """A randomly initialised model for the checkpoint.

    Raises CheckpointError if a task with labels has too few: one is enough unless the scores are a softmax.
    """
    labels = len(checkpoint.labels)
    least = 1 if checkpoint.task == "classify" and checkpoint.scores != "softmax" else 2
    if checkpoint.task in LABELLED and labels < least:
        raise CheckpointError(
            f'{directory / "config.json"}: "labels" must name at least {"one class" if least == 1 else "two classes"}, '
            f"not {labels}."
        )
    if checkpoint.task == "fill-mask":
        return ErnieForMaskedLM(checkpoint.config)
    if checkpoint.task == "question-answering":
        return ErnieForQuestionAnswering(checkpoint.config)
    if checkpoint.task == "token-classification":
        return ErnieForTokenClassification(checkpoint.config, labels)
    return ErnieForSequenceClassification(checkpoint.config, labels)


def load_model(directory: Path) -> nn.Layer:
    """The model of a checkpoint with its weights, in evaluation mode.

    Raises CheckpointError, ConfigError or WeightsError if a file is missing, invalid or does not fit.
    """
    model = model_of(read_checkpoint(directory), directory)
    load_state(model, read_pdparams(directory))
    model.eval()
    return model
