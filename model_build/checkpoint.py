"""Checkpoints as training leaves them: weights, shape, vocabulary and what is known about them, in one folder.

model_state.pdparams   weights under PaddleNLP's names
config.json            ErnieConfig, plus "task", "labels", "max_length", "evaluation", "provenance"
vocab.txt
sentences.txt          real sentences for the parity check of the export, one a line
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
from model_build.bundle import TASKS, Task
from model_build.config import ErnieConfig
from model_build.heads import (
    ErnieForMaskedLM,
    ErnieForQuestionAnswering,
    ErnieForSequenceClassification,
    ErnieForTokenClassification,
)
from model_build.weights import load_state, read_pdparams

LONGEST = 512
"""Tokens that a model reads at once unless its folder says otherwise, however many positions it has."""
LABELLED: tuple[Task, ...] = ("classify", "token-classification")
PUBLISHED: dict[str, Task] = {
    "ErnieForMaskedLM": "fill-mask",
    "ErnieForPretraining": "fill-mask",
    "ErnieForQuestionAnswering": "question-answering",
    "ErnieForSequenceClassification": "classify",
    "ErnieForTokenClassification": "token-classification",
}
"""PaddleNLP's classes."""


class CheckpointError(ValueError):
    """A folder that is not a usable checkpoint; the message is one sentence."""


@dataclass
class Checkpoint:
    """What a checkpoint holds beside its weights."""

    config: ErnieConfig
    task: Task
    max_length: int
    labels: list[str] = field(default_factory=list)
    evaluation: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(
    directory: Path, checkpoint: Checkpoint, model: nn.Layer, vocab_path: Path, sentences: list[str]
) -> None:
    """Writes the folder under a temporary name and renames it over an earlier one."""
    with atomic_folder(directory, existing="replace") as folder:
        write_checkpoint(folder, checkpoint, model.state_dict(), vocab_path, sentences)


def write_checkpoint(
    directory: Path, checkpoint: Checkpoint, state: Mapping[str, Tensor], vocab_path: Path, sentences: list[str]
) -> None:
    """Writes the four files into an existing folder; `state` is the model's state_dict."""
    paddle.save(state, str(directory / "model_state.pdparams"))
    about = {
        **checkpoint.config.to_dict(),
        "task": checkpoint.task,
        "max_length": checkpoint.max_length,
        "labels": checkpoint.labels,
        "evaluation": checkpoint.evaluation,
        "provenance": checkpoint.provenance,
    }
    (directory / "config.json").write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    shutil.copyfile(vocab_path, directory / "vocab.txt")
    (directory / "sentences.txt").write_text("".join(line + "\n" for line in sentences), encoding="utf-8")


def read_checkpoint(directory: Path) -> Checkpoint:
    """Reads `config.json`, ours or PaddleNLP's, which tells the task by `architectures` and the labels by `id2label`.

    Raises CheckpointError naming what is missing.
    """
    for name in ("config.json", "vocab.txt", "model_state.pdparams"):
        if not (directory / name).is_file():
            raise CheckpointError(f"{directory / name} is missing; a checkpoint folder needs it.")
    config = ErnieConfig.from_json(directory / "config.json")
    values = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    task = values.get("task") or _published_task(values)
    if task not in TASKS:
        raise CheckpointError(
            f'{directory / "config.json"}: "task" must be {" or ".join(TASKS)}, not {task!r}; it tells what the head '
            "of the model is for."
        )
    names = values.get("id2label") or {}
    labels = values.get("labels") or [names[key] for key in sorted(names, key=int)]
    return Checkpoint(
        config,
        task,
        int(values.get("max_length", min(config.max_position_embeddings, LONGEST))),
        list(labels) if task in LABELLED else [],
        dict(values.get("evaluation", {})),
        dict(values.get("provenance", {})),
    )


def _published_task(values: Mapping[str, Any]) -> str | None:
    """The task of the class that PaddleNLP saved."""
    return next((PUBLISHED[name] for name in values.get("architectures") or [] if name in PUBLISHED), None)


def model_of(checkpoint: Checkpoint, directory: Path) -> nn.Layer:
    """The model that a checkpoint describes, at random. Raises CheckpointError where its labels are too few."""
    labels = len(checkpoint.labels)
    if checkpoint.task in LABELLED and labels < 2:
        raise CheckpointError(f'{directory / "config.json"}: "labels" must name at least two classes.')
    if checkpoint.task == "fill-mask":
        return ErnieForMaskedLM(checkpoint.config)
    if checkpoint.task == "question-answering":
        return ErnieForQuestionAnswering(checkpoint.config)
    if checkpoint.task == "token-classification":
        return ErnieForTokenClassification(checkpoint.config, labels)
    return ErnieForSequenceClassification(checkpoint.config, labels)


def load_model(directory: Path) -> nn.Layer:
    """The model of a checkpoint with its weights, in evaluation mode."""
    model = model_of(read_checkpoint(directory), directory)
    load_state(model, read_pdparams(directory))
    model.eval()
    return model
