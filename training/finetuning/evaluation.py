"""Evaluation of finetuned models: metrics and predictions, of a model in memory or in a folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paddle import nn

from model_build.atomic_write import atomic_file
from model_build.checkpoint import Checkpoint, load_model, read_checkpoint
from training.datasets.examples import MultiLabelExample, TaskName, check_known
from training.datasets.overlap import overlap_report
from training.datasets.tag_schemes import SCHEMES, detect_scheme
from training.finetuning.loop import predict
from training.finetuning.settings import FinetuneSettings
from training.tasks.classification import Classification
from training.tasks.multi_label import MultiLabelClassification
from training.tasks.question_answering import QuestionAnswering
from training.tasks.task import Task
from training.tasks.token_classification import TokenClassification
from training.tasks.tokenizer import Tokenizer

log = logging.getLogger(__name__)

Parts = Mapping[str, Sequence[Any]]
Figures = dict[str, Mapping[str, Any]]
"""metrics by part, over all rows; and by `<part>_not_in_train`, over the rows that do not occur in train"""


def evaluate(task: Task, model: nn.Layer, examples: Parts) -> tuple[Figures, dict[str, list[Any]]]:
    """Metrics and predictions of every part but train; with a train part, the metrics include the overlap with it."""
    figures: Figures = {}
    predictions = {}
    for part, rows in examples.items():
        if part == "train":
            continue
        found = predictions[part] = predict(task, model, rows, task.rows(rows), model.config.pad_token_id)
        figures[part] = task.figures(rows, found)
        if "train" in examples:
            overlap = overlap_report(examples["train"], rows)
            figures[part] = {**figures[part], **overlap.counts}
            if overlap.counts["in_train"] and overlap.unseen:
                left = [[side[index] for index in overlap.unseen] for side in (rows, found)]
                figures[f"{part}_not_in_train"] = task.figures(*left)
    return figures, predictions


def evaluate_model(directory: Path, examples: Parts, kind: TaskName) -> tuple[Figures, dict[str, list[Any]]]:
    """Metrics and predictions of the model in a folder, with its own vocabulary, labels and lengths.

    `kind` is the task of the examples. Raises ValueError (CheckpointError) if there is no model, if its task is another
    one, or if an example has a label that the model lacks.
    """
    about = read_checkpoint(directory)
    if about.task != kind:
        raise ValueError(f"{directory} is for {about.task}, not for {kind}; give examples of its task.")
    parts = {part: rows for part, rows in examples.items() if part != "train"}
    if not parts:
        raise ValueError("there is nothing to evaluate; give examples with --dev or --test.")
    task = task_of_model(directory, about)
    several = isinstance(task, MultiLabelClassification)
    if any(isinstance(row, MultiLabelExample) != several for rows in parts.values() for row in rows[:1]):
        raise ValueError(f"{directory} {'needs' if several else 'is not'} multi-label: correct the flag --multi-label.")
    if task.labels:
        for rows in parts.values():
            check_known(task.labels, rows, str(directory))
    return evaluate(task, load_model(directory), examples)


def task_of_model(directory: Path, about: Checkpoint) -> Task:
    """The task with the settings that the model of a folder was trained with; labels as in its training files."""
    tokenizer = Tokenizer(directory / "vocab.txt", about.tokenizer)
    trained = about.provenance.get("finetuning", {})
    length = min(trained.get("max_seq_length", about.max_length), about.max_length)
    labels = about.provenance.get("labels", about.labels)
    if about.task == "question-answering":
        stride, longest = (
            trained.get(name, getattr(FinetuneSettings, name)) for name in ("doc_stride", "max_answer_length")
        )
        return QuestionAnswering(tokenizer, length, stride, longest)
    if about.task == "token-classification":
        scheme = SCHEMES.get(about.provenance.get("scheme", "")) or detect_scheme([labels])
        return TokenClassification(tokenizer, labels, length, scheme)
    if about.task == "classify" and about.scores == "sigmoid":
        return MultiLabelClassification(tokenizer, labels, length)
    if about.task == "classify":
        return Classification(tokenizer, labels, length)
    raise ValueError(f"{directory} is for {about.task}, which is not a task of finetuning; give a finetuned model.")


def scheme_name(task: Task) -> dict[str, str]:
    """{"scheme": name of the tagging scheme}; empty if the task has no tags."""
    return {"scheme": task.scheme.name} if isinstance(task, TokenClassification) else {}


def warn_of_overlap(examples: Parts) -> None:
    """Logs a warning for every evaluation part with examples that also occur in train."""
    for part, rows in examples.items():
        counts = overlap_report(examples.get("train", []), rows).counts if part != "train" else {"in_train": 0}
        if counts["in_train"]:
            log.warning("%d of the %d %s examples also occur in train", counts["in_train"], len(rows), part)


def unlabelled_overlap(examples: Parts, unlabelled: Sequence[Any]) -> dict[str, int]:
    """Counts the examples of every evaluation part that occur in the unlabelled texts, and warns if there are any."""
    counts = {}
    for part, rows in examples.items():
        if unlabelled and part != "train":
            counts[f"{part}_in_unlabelled"] = found = overlap_report(unlabelled, rows).counts["in_train"]
            if found:
                log.warning("%d of the %d %s examples occur in the unlabelled texts", found, len(rows), part)
    return counts


def summary(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics that are single numbers, without matrices and metrics by type."""
    return {name: value for name, value in figures.items() if isinstance(value, int | float)}


def write_predictions(output: Path, predictions: Mapping[str, Sequence[Any]]) -> None:
    """Writes `predictions/PART.jsonl`: one JSON object per line, in the order of the examples. Raises WriteError."""
    for part, rows in predictions.items():
        path = output / "predictions" / f"{part}.jsonl"
        with atomic_file(path) as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
