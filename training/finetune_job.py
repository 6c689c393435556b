"""A whole finetuning: grid, seeds, evaluation of every part, and the checkpoint that is exported and served."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model_build.checkpoint import Checkpoint, load_model, read_checkpoint, save_checkpoint
from training.corpus.output import naming
from training.datasets.examples import Question, check_labels, label_names, tag_names
from training.finetune import Finetuned, FinetuneRun, finetune, predict
from training.finetune_report import RunCurves, write_report
from training.initial_weights import StartingPoint
from training.metrics import spread
from training.overlap import overlap_report, texts_of
from training.records import Records
from training.settings import FinetuneRunSettings, FinetuneSettings
from training.tasks.classification import Classification, balanced_weights
from training.tasks.question_answering import QuestionAnswering
from training.tasks.task import Task, TaskName
from training.tasks.token_classification import TokenClassification
from training.tokens import Encoder

log = logging.getLogger(__name__)

Parts = Mapping[str, Sequence[Any]]
PARITY_SENTENCES = 32
PARITY_LENGTH = 100


@dataclass(frozen=True)
class FinetuneJob:
    """What a finetuning is made of."""

    task: TaskName
    examples: Parts
    """by part: train, dev, and any number of others to evaluate on"""
    start: StartingPoint
    settings: FinetuneSettings
    output: Path
    """folder: the checkpoint of the best run, runs/, results.json, predictions/, report.html"""
    seeds: Sequence[int] = (1,)
    learning_rates: Sequence[float] = ()
    """to try with the first seed; without any, that of the settings"""
    batch_sizes: Sequence[int] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    """labels of the files to those shown to users"""
    how: FinetuneRunSettings = field(default_factory=FinetuneRunSettings)


@dataclass(frozen=True)
class Outcome:
    """One run of a job, evaluated on every part but train."""

    settings: FinetuneSettings
    finetuned: Finetuned
    figures: Mapping[str, Mapping[str, Any]]
    """by part: the task's figures of all its rows; and by `<part>_not_in_train`: of those that train has not"""
    predictions: Mapping[str, Sequence[Any]]


def run_job(job: FinetuneJob) -> Checkpoint:
    """Trains, evaluates and writes the output folder; what of it is there already is not done again.

    Raises ValueError for examples, settings and weights that do not fit together.
    """
    check_examples(job.examples)
    metric = _metric(job)
    chosen, grid = _best_of_grid(job)
    settings = [dataclasses.replace(chosen, seed=seed) for seed in job.seeds]
    outcomes = [_evaluated(job, each) for each in settings]
    best = max(outcomes, key=lambda each: each.finetuned.figures[metric])
    results = {**_results(job, outcomes), "metric": metric, "best_seed": best.settings.seed, "grid": grid}
    checkpoint = _checkpoint(job, best, results)
    sentences = [text[:PARITY_LENGTH] for row in job.examples["dev"] for text in texts_of(row)][:PARITY_SENTENCES]
    save_checkpoint(job.output / "model", checkpoint, best.finetuned.model, job.start.vocab, sentences)
    _write_json(job.output / "results.json", results)
    write_predictions(job.output, best.predictions)
    write_report(
        job.output / "report.html",
        title=f"Finetuning, {job.output.resolve().name}",
        results=results,
        labels={label: job.names.get(label, label) for label in task_of(job, chosen).labels},
        examples=job.examples,
        predictions=best.predictions,
        curves=[_curves(job, each) for each in outcomes],
    )
    return checkpoint


def check_examples(examples: Parts) -> None:
    """Raises ValueError where train teaches nothing, or another part has a label that train has not."""
    for part in ("train", "dev"):
        if not examples.get(part):
            raise ValueError(f"there are no {part} examples; give them with --{part}, or a data set that has some.")
    if not isinstance(examples["train"][0], Question):
        for part, rows in examples.items():
            check_labels(examples["train"], rows if part != "train" else [])


def task_of(job: FinetuneJob, settings: FinetuneSettings) -> Task:
    """The task with the labels of the training examples."""
    train = job.examples["train"]
    encoder = Encoder(job.start.vocab)
    if job.task == "question-answering":
        return QuestionAnswering(encoder, settings.max_seq_length, settings.doc_stride, settings.max_answer_length)
    if job.task == "token-classification":
        return TokenClassification(encoder, tag_names(train), settings.max_seq_length)
    labels = label_names(train)
    weights = balanced_weights(train, labels) if settings.class_weights == "balanced" else None
    return Classification(encoder, labels, settings.max_seq_length, weights)


def _metric(job: FinetuneJob) -> str:
    """The figure that chooses; raises ValueError for one that the task has not."""
    metrics = task_of(job, job.settings).metrics
    if job.settings.metric and job.settings.metric not in metrics:
        raise ValueError(f"--metric {job.settings.metric} is none of {job.task}'s: {', '.join(metrics)}.")
    return job.settings.metric or metrics[0]


def _best_of_grid(job: FinetuneJob) -> tuple[FinetuneSettings, list[dict[str, Any]]]:
    """The settings with the learning rate and batch size that do best on dev with the first seed, as CLUE chooses.

    And what was tried, with its score; nothing where there was no choice.
    """
    grid = [
        dataclasses.replace(job.settings, learning_rate=rate, batch_size=size, seed=job.seeds[0])
        for rate, size in itertools.product(
            job.learning_rates or [job.settings.learning_rate], job.batch_sizes or [job.settings.batch_size]
        )
    ]
    if len(grid) == 1:
        return grid[0], []
    metric = _metric(job)
    scores = [(_trained(job, each).figures[metric], each) for each in grid]
    for score, each in scores:
        log.info("learning rate %g, batch size %d: dev %s %.4f", each.learning_rate, each.batch_size, metric, score)
    tried = [
        {"learning_rate": each.learning_rate, "batch_size": each.batch_size, "score": score} for score, each in scores
    ]
    return max(scores, key=lambda pair: pair[0])[1], tried


def _trained(job: FinetuneJob, settings: FinetuneSettings) -> Finetuned:
    """One run, in a folder of its own below runs/; one that is over is read from its checkpoint."""
    run = FinetuneRun(
        task_of(job, settings), job.start.config, job.examples, job.start.weights, settings,
        _folder(job, settings), job.how,
    )  # fmt: skip
    return finetune(run)


def _folder(job: FinetuneJob, settings: FinetuneSettings) -> Path:
    name = f"lr-{settings.learning_rate:g}-batch-{settings.batch_size}-seed-{settings.seed}"
    return job.output / "runs" / name


def _curves(job: FinetuneJob, outcome: Outcome) -> RunCurves:
    records = Records(_folder(job, outcome.settings) / "records.jsonl").read()
    return RunCurves(outcome.settings.seed, records, outcome.finetuned.evaluations)


def _evaluated(job: FinetuneJob, settings: FinetuneSettings) -> Outcome:
    task, finetuned = task_of(job, settings), _trained(job, settings)
    figures: dict[str, Mapping[str, Any]] = {}
    predictions = {}
    for part in [name for name in job.examples if name != "train"]:
        predictions[part] = evaluate(task, finetuned.model, job.examples, part, figures)
    return Outcome(settings, finetuned, figures, predictions)


def evaluate(task: Task, model: Any, examples: Parts, part: str, figures: dict[str, Mapping[str, Any]]) -> list[Any]:
    """Predictions of a part; puts the figures of all its rows, and of those not in train, into `figures`."""
    rows = examples[part]
    predictions = predict(task, model, rows, task.rows(rows), model.config.pad_token_id)
    overlap = overlap_report(examples.get("train", []), rows)
    figures[part] = {**task.figures(rows, predictions), **overlap.counts}
    if overlap.counts["in_train"] and overlap.unseen:
        unseen = [(rows[index], predictions[index]) for index in overlap.unseen]
        left_rows, left = ([pair[side] for pair in unseen] for side in (0, 1))
        figures[f"{part}_not_in_train"] = task.figures(left_rows, left)
    return predictions


def evaluate_model(job: FinetuneJob) -> tuple[dict[str, Mapping[str, Any]], dict[str, list[Any]]]:
    """Figures and predictions of the model in the output folder on every part but train, by part.

    Raises ValueError (CheckpointError) where there is no model, or one of another task or other labels.
    """
    directory = job.output / "model"
    about = read_checkpoint(directory)
    task = task_of(job, job.settings)
    labels = [job.names.get(label, label) for label in task.labels]
    if (about.task, about.labels) != (job.task, labels):
        raise ValueError(f"{directory} is for {about.task} with the labels {about.labels}, not for these examples.")
    model = load_model(directory)
    figures: dict[str, Mapping[str, Any]] = {}
    predictions = {part: evaluate(task, model, job.examples, part, figures) for part in job.examples if part != "train"}
    return figures, predictions


def warn_of_overlap(examples: Parts) -> None:
    """A log line for every evaluation part of which something stands in train."""
    for part, rows in examples.items():
        counts = overlap_report(examples["train"], rows).counts if part != "train" else {"in_train": 0}
        if counts["in_train"]:
            log.warning("%d of the %d %s examples stand in train too", counts["in_train"], len(rows), part)


def _results(job: FinetuneJob, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Settings and figures of every run, and mean and spread over the seeds."""
    metrics = task_of(job, job.settings).metrics
    parts = list(outcomes[0].figures)
    return {
        "task": job.task,
        "pretrained": job.start.described,
        "settings": {**dataclasses.asdict(outcomes[0].settings), "seed": list(job.seeds)},
        "figures": {
            part: {metric: spread([each.figures[part][metric] for each in outcomes]) for metric in metrics}
            for part in parts
        },
        "runs": [
            {"seed": each.settings.seed, "best_step": each.finetuned.step, "figures": dict(each.figures)}
            for each in outcomes
        ],
    }


def _checkpoint(job: FinetuneJob, best: Outcome, results: Mapping[str, Any]) -> Checkpoint:
    labels = [job.names.get(label, label) for label in task_of(job, best.settings).labels]
    evaluation = {part: summary(figures) for part, figures in best.figures.items()}
    provenance = {
        "finetuning": dataclasses.asdict(best.settings),
        "step": best.finetuned.step,
        "pretrained": job.start.described,
        "seeds": {"seeds": list(job.seeds), "figures": results["figures"]},
    }
    length = min(job.start.config.max_position_embeddings, 512)
    return Checkpoint(job.start.config, job.task, length, labels, evaluation, provenance)


def summary(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that are numbers, without matrices and figures by type."""
    return {name: value for name, value in figures.items() if isinstance(value, int | float)}


def write_predictions(output: Path, predictions: Mapping[str, Sequence[Any]]) -> None:
    """`predictions/PART.jsonl`: one JSON object a line, in the order of the examples; written aside and renamed."""
    for part, rows in predictions.items():
        path = output / "predictions" / f"{part}.jsonl"
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            aside = path.with_name(path.name + ".part")
            with aside.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            os.replace(aside, path)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    with naming(path):
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(part, path)
