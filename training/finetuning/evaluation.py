"""How good a finetuned model is: figures and predictions, also of a model that lies on the disk, as it is."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paddle import nn

from model_build.atomic_write import atomic_file
from model_build.checkpoint import Checkpoint, load_model, read_checkpoint
from training.datasets.examples import check_known
from training.datasets.overlap import overlap_report
from training.datasets.tag_schemes import SCHEMES, detect_scheme
from training.finetuning.loop import predict
from training.finetuning.settings import FinetuneSettings
from training.tasks.classification import Classification
from training.tasks.question_answering import QuestionAnswering
from training.tasks.task import Task, TaskName
from training.tasks.token_classification import TokenClassification
from training.tasks.tokenizer import Tokenizer

log = logging.getLogger(__name__)

Parts = Mapping[str, Sequence[Any]]
Figures = dict[str, Mapping[str, Any]]
"""by part: of all its rows; and by `<part>_not_in_train`: of those that train has not"""


def evaluate(task: Task, model: nn.Layer, examples: Parts) -> tuple[Figures, dict[str, list[Any]]]:
    """Figures and predictions of every part but train; where there is train, what of a part stands in it is told."""
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
    """Figures and predictions of the model in a folder as it is: with its vocabulary, labels and lengths.

    The examples are of the task `kind`. Raises ValueError (CheckpointError) where there is no model, one of another
    task, or an example with a label that it has not.
    """
    about = read_checkpoint(directory)
    if about.task != kind:
        raise ValueError(f"{directory} is for {about.task}, not for {kind}.")
    parts = {part: rows for part, rows in examples.items() if part != "train"}
    if not parts:
        raise ValueError("there is nothing to evaluate; give examples with --dev or --test.")
    task = task_of_model(directory, about)
    if task.labels:
        for rows in parts.values():
            check_known(task.labels, rows, str(directory))
    return evaluate(task, load_model(directory), examples)


def task_of_model(directory: Path, about: Checkpoint) -> Task:
    """The task as the model of a folder was trained for it; labels are those of the files it learnt from."""
    tokenizer, trained = Tokenizer(directory / "vocab.txt"), about.provenance.get("finetuning", {})
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
    if about.task == "classify":
        return Classification(tokenizer, labels, length)
    raise ValueError(f"{directory} is for {about.task}, which is no task of finetuning; give a finetuned model.")


def scheme_name(task: Task) -> dict[str, str]:
    """The scheme of the tags by name, for files; nothing where the task has no tags."""
    return {"scheme": task.scheme.name} if isinstance(task, TokenClassification) else {}


def warn_of_overlap(examples: Parts) -> None:
    """A log line for every evaluation part of which something stands in train, where there is train."""
    for part, rows in examples.items():
        counts = overlap_report(examples.get("train", []), rows).counts if part != "train" else {"in_train": 0}
        if counts["in_train"]:
            log.warning("%d of the %d %s examples stand in train too", counts["in_train"], len(rows), part)


def unlabelled_overlap(examples: Parts, unlabelled: Sequence[Any]) -> dict[str, int]:
    """How many examples of every evaluation part stand in the texts without labels, with a warning where any do."""
    counts = {}
    for part, rows in examples.items():
        if unlabelled and part != "train":
            counts[f"{part}_in_unlabelled"] = found = overlap_report(unlabelled, rows).counts["in_train"]
            if found:
                log.warning("%d of the %d %s examples stand in the unlabelled texts", found, len(rows), part)
    return counts


def summary(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that are numbers, without matrices and figures by type."""
    return {name: value for name, value in figures.items() if isinstance(value, int | float)}


def write_predictions(output: Path, predictions: Mapping[str, Sequence[Any]]) -> None:
    """`predictions/PART.jsonl`: one JSON object a line, in the order of the examples; written aside and renamed."""
    for part, rows in predictions.items():
        path = output / "predictions" / f"{part}.jsonl"
        with atomic_file(path) as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
