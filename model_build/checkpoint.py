"""Model checkpoints: one folder with weights, configuration, vocabulary and their description, as training writes it.

model_state.pdparams   weights under PaddleNLP's names
config.json            the fields of ErnieConfig, those that PaddleNLP's classes need (`architectures`, `id2label`, …),
                       and "task", "labels", "problem_type", "max_length", "evaluation", "provenance"
vocab.txt
tokenizer_config.json  `TokenizerSettings`, and the class of PaddleNLP's tokenizer
sentences.txt          real sentences, one on each line, for the parity check of the export

Folders of PaddleNLP and Hugging Face with a model of ERNIE or BERT are read too; see `model_build.formats`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import paddle
from paddle import Tensor, nn

from model_build.atomic_write import atomic_folder
from model_build.bundle import TASKS, Scores, Task, read_vocabulary
from model_build.config import ErnieConfig
from model_build.formats.files import weights_file
from model_build.heads import (
    ErnieForMaskedLM,
    ErnieForQuestionAnswering,
    ErnieForSequenceClassification,
    ErnieForTokenClassification,
)
from model_build.labels import PROBLEM_TYPES, LabelError, labels_of_folder, scores_of_folder
from model_build.tokenizer_config import TokenizerSettings, read_tokenizer_config, write_tokenizer_config
from model_build.weights import load_state, read_weights

LONGEST = 512
"""Default of `max_length`, in tokens, for a model with more positions than this."""
LABELLED: tuple[Task, ...] = ("classify", "token-classification")
TASK_OF_HEAD: dict[str, Task] = {
    "ForMaskedLM": "fill-mask",
    "ForPretraining": "fill-mask",
    "ForPreTraining": "fill-mask",
    "ForQuestionAnswering": "question-answering",
    "ForSequenceClassification": "classify",
    "ForTokenClassification": "token-classification",
}
"""The task of each class that `config.json` can name under `architectures`, after `Ernie` or `Bert`."""
WITH_POOLER: tuple[Task, ...] = ("classify",)
"""The tasks whose head reads the pooler; the weights of the others are complete without it."""


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
    tokenizer: TokenizerSettings = field(default_factory=TokenizerSettings)
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
    """Writes the files of a checkpoint into an existing folder; `state` is the state_dict of the model.

    PaddleNLP's classes, Auto classes and Taskflow read the folder as it is.
    """
    paddle.save(state, str(directory / "model_state.pdparams"))
    about = {
        **published_fields(checkpoint, state),
        "task": checkpoint.task,
        "max_length": checkpoint.max_length,
        "labels": checkpoint.labels,
        "evaluation": checkpoint.evaluation,
        "provenance": checkpoint.provenance,
    }
    (directory / "config.json").write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    write_vocabulary(directory, vocab_path)
    write_tokenizer_config(directory, checkpoint.tokenizer)
    (directory / "sentences.txt").write_text("".join(line + "\n" for line in sentences), encoding="utf-8")


def published_fields(checkpoint: Checkpoint, state: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """The fields of `config.json` that PaddleNLP's and Hugging Face's classes read.

    `state` decides whether a masked LM is one of pretraining, with the head for the order of sentences.
    """
    heads = [head for head, task in TASK_OF_HEAD.items() if task == checkpoint.task]
    pretraining = "cls.seq_relationship.weight" in state
    head = "ForPretraining" if checkpoint.task == "fill-mask" and pretraining else heads[0]
    fields = {**checkpoint.config.to_dict(), "model_type": "ernie", "architectures": [f"Ernie{head}"]}
    if checkpoint.labels:
        fields["id2label"] = {str(index): label for index, label in enumerate(checkpoint.labels)}
        fields["label2id"] = {label: index for index, label in enumerate(checkpoint.labels)}
    if checkpoint.task == "classify":
        fields["problem_type"] = PROBLEM_TYPES[checkpoint.scores]
    return fields


def write_vocabulary(directory: Path, vocab_path: Path) -> None:
    """Writes `vocab.txt` with one token on each line and nothing else, as PaddleNLP and Hugging Face read it."""
    tokens = read_vocabulary(vocab_path)
    (directory / "vocab.txt").write_text("".join(token + "\n" for token in tokens), encoding="utf-8", newline="\n")


def read_checkpoint(directory: Path, vocab: Path | None = None) -> Checkpoint:
    """Reads the `config.json` of a checkpoint folder; the weights are not read. `vocab` replaces its `vocab.txt`.

    A `config.json` of PaddleNLP or Hugging Face gives the task in `architectures`; `model_build.labels` names
    the files with labels and scores. Raises CheckpointError if a file is missing, the task is unknown or labels are
    unusable, ConfigError if `config.json` is invalid or describes another network, WeightsError without weights.
    """
    for path in (directory / "config.json", vocab or directory / "vocab.txt"):
        if not path.is_file():
            raise CheckpointError(f"{path} is missing; {_instead_of(directory, path.name)}.")
    config = ErnieConfig.from_json(directory / "config.json")
    weights_file(directory)
    values = json.loads((directory / "config.json").read_text(encoding="utf-8-sig"))
    task = values.get("task") or published_task(values)
    if task not in TASKS:
        raise CheckpointError(
            f'{directory / "config.json"}: "task" must be {" or ".join(TASKS)}, not {task!r}; set it to the task of '
            "the model's head."
        )
    labels, scores = _labels_and_scores(directory, values, task)
    return Checkpoint(
        config,
        task,
        int(values.get("max_length", min(config.max_position_embeddings, LONGEST))),
        labels,
        dict(values.get("evaluation", {})),
        dict(values.get("provenance", {})),
        read_tokenizer_config(directory),
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


def _instead_of(directory: Path, name: str) -> str:
    if name == "vocab.txt" and (directory / "tokenizer.json").is_file():
        return (
            f"`ernie-build convert {directory} --to paddlenlp --output FOLDER` writes it from tokenizer.json, into a "
            "folder to use instead"
        )
    return "give a folder with config.json, vocab.txt and model_state.pdparams, model.safetensors or pytorch_model.bin"


def check_vocabulary(vocab_path: Path, config: ErnieConfig, owner: str) -> None:
    """Raises CheckpointError if a vocabulary does not fit the model `owner`.

    It may not have more tokens than the model has embeddings, and its `[PAD]`, if it has one, must be the token with
    which the model pads.
    """
    tokens = read_vocabulary(vocab_path)
    if "[PAD]" in tokens and tokens.index("[PAD]") != config.pad_token_id:
        raise CheckpointError(
            f"{vocab_path} has [PAD] as token {tokens.index('[PAD]')}, but {owner} pads with token "
            f"{config.pad_token_id}; give the model's vocabulary."
        )
    if len(tokens) > config.vocab_size:
        raise CheckpointError(
            f"{vocab_path} has {len(tokens):,} tokens, more than {owner} has embeddings ({config.vocab_size:,}); give "
            "the model's vocabulary."
        )


def published_task(values: Mapping[str, Any]) -> Task | None:
    """The task of the class in `architectures`, or None."""
    heads = [name.removeprefix("Ernie").removeprefix("Bert") for name in values.get("architectures") or []]
    return next((TASK_OF_HEAD[head] for head in heads if head in TASK_OF_HEAD), None)


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
    checkpoint = read_checkpoint(directory)
    model = model_of(checkpoint, directory)
    load_checkpoint_state(model, checkpoint, read_weights(directory))
    model.eval()
    return model


def load_checkpoint_state(model: nn.Layer, checkpoint: Checkpoint, state: dict[str, Any]) -> None:
    """Copies all weights of a checkpoint into its model; a pooler that the task does not read may be missing.

    Raises WeightsError if weights do not fit.
    """
    load_state(model, state, new_heads=() if checkpoint.task in WITH_POOLER else ("ernie.pooler.",))
