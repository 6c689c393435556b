"""A finetuning job: grid search, one run per seed, evaluation of every part, and the checkpoint for export."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paddle import nn

from model_build.atomic_write import atomic_file
from model_build.bundle import Scores
from model_build.checkpoint import Checkpoint, save_checkpoint
from training.datasets.examples import (
    Example,
    MultiLabelExample,
    Question,
    TaggedSentence,
    TaskName,
    check_kinds,
    check_labels,
    label_names,
    scheme_of,
    tag_names,
)
from training.datasets.texts import texts_of
from training.distilling.distilled_task import DistilledTask
from training.distilling.teachers import (
    Distillation,
    Student,
    Teacher,
    distillation_identity,
    finetuned_teacher,
    parameter_count,
)
from training.finetuning.evaluation import (
    evaluate,
    evaluate_model,
    scheme_name,
    summary,
    unlabelled_overlap,
    write_predictions,
)
from training.finetuning.loop import Finetuned, FinetuneRun, finetune
from training.finetuning.settings import FinetuneRunSettings, FinetuneSettings
from training.finetuning.starting_point import StartingPoint
from training.reports.finetuning_report import RunCurves, write_report
from training.runs.interruption import InterruptedRun, interruption
from training.runs.records import Records
from training.tasks.classification import Classification, balanced_weights
from training.tasks.metrics import spread
from training.tasks.multi_label import MultiLabelClassification
from training.tasks.question_answering import QuestionAnswering
from training.tasks.task import Task
from training.tasks.token_classification import TokenClassification
from training.tasks.tokenizer import Tokenizer

log = logging.getLogger(__name__)

Parts = Mapping[str, Sequence[Any]]
TASKS: Mapping[TaskName, type[Classification | TokenClassification | QuestionAnswering]] = {
    "classify": Classification,
    "token-classification": TokenClassification,
    "question-answering": QuestionAnswering,
}
PARITY_SENTENCES = 32
PARITY_LENGTH = 100


@dataclass(frozen=True)
class FinetuneJob:
    """The inputs of a finetuning job."""

    task: TaskName
    examples: Parts
    """by part: train, dev, and any number of other parts to evaluate on"""
    start: StartingPoint
    settings: FinetuneSettings
    output: Path
    """folder for model/ (the checkpoint of the best run), runs/, results.json, predictions/ and report.html"""
    seeds: Sequence[int] = (1,)
    learning_rates: Sequence[float] = ()
    """to try with the first seed; if empty, that of the settings"""
    batch_sizes: Sequence[int] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    """display names by label of the files"""
    run_settings: FinetuneRunSettings = field(default_factory=FinetuneRunSettings)
    flags: Mapping[str, Any] = field(default_factory=dict)
    """flags of the command, for settings.yaml; if empty, the file is not written"""
    distillation: Distillation | None = None
    """teachers and their losses; None: no distillation"""

    def __post_init__(self) -> None:
        """Raises ValueError if examples and settings do not fit together."""
        check_examples(self.examples)
        longest = self.start.config.max_position_embeddings
        if self.settings.max_seq_length > longest:
            raise ValueError(
                f"--max-seq-length {self.settings.max_seq_length} is longer than the {longest} positions of "
                f"--pretrained {self.start.described['start']}; lower it."
            )
        for flag, values in (
            ("--seeds", self.seeds), ("--learning-rates", self.learning_rates), ("--batch-sizes", self.batch_sizes),
        ):  # fmt: skip
            # As in the names of the folders of the runs.
            shown = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
            if twice := next((value for value in shown if shown.count(value) > 1), None):
                raise ValueError(f"{flag} {' '.join(shown)} names {twice} twice; give each value once.")
        for seed in self.seeds:
            dataclasses.replace(self.settings, seed=seed)
        if self.distillation and self.distillation.unlabelled and self.task != "classify":
            raise ValueError(f"--unlabelled is for classification; leave it out for {self.task}.")
        if self.distillation:
            weights = self.distillation.settings
            if not weights.hard_weight and not weights.logits_weight:
                raise ValueError(
                    "with --hard-weight 0 and --logits-weight 0 the head would not be trained; raise one of them."
                )
            _check_unlabelled(self.examples["train"][0], self.distillation.unlabelled)
        if self.is_multi_label and (self.distillation or self.settings.class_weights != "none"):
            raise ValueError("multi-label examples cannot be distilled, and have no --class-weights; leave them out.")
        metrics = self._metrics
        if self.settings.metric and self.settings.metric not in metrics:
            raise ValueError(
                f"--metric {self.settings.metric} is not a metric of {self.task}; give one of {', '.join(metrics)}."
            )

    @property
    def metric(self) -> str:
        """The metric on dev that selects the best weights and run."""
        return self.settings.metric or self._metrics[0]

    @property
    def is_multi_label(self) -> bool:
        """Whether a text may have any number of labels."""
        return isinstance(self.examples["train"][0], MultiLabelExample)

    @property
    def _metrics(self) -> Sequence[str]:
        return (MultiLabelClassification if self.is_multi_label else TASKS[self.task]).metrics


@dataclass(frozen=True)
class RunResult:
    """The result of one run, evaluated on every part but train."""

    settings: FinetuneSettings
    step: int
    """the step after which its weights were the best"""
    score: float
    """the selecting metric on dev at that step"""
    evaluations: Sequence[Mapping[str, Any]]
    figures: Mapping[str, Mapping[str, Any]]
    """metrics by part, over all rows; and by `<part>_not_in_train`, over the rows that do not occur in train"""
    predictions: Mapping[str, Sequence[Any]]


def run_job(job: FinetuneJob) -> Checkpoint:
    """Trains, evaluates and writes the output folder; finished runs in it are not repeated.

    Raises ValueError for weights that do not fit, WriteError, and InterruptedRun after SIGTERM or SIGINT.
    """
    job = _resuming(job)
    task = task_of(job)
    trained_task = _trained_task(job, task)
    with interruption() as stop:
        chosen, grid = _best_of_grid(job, trained_task, stop)
        run_results: list[RunResult] = []
        best, model = None, None
        for seed in job.seeds:
            run_result, trained = _evaluate_run(job, trained_task, dataclasses.replace(chosen, seed=seed), stop)
            run_results.append(run_result)
            if best is None or run_result.score > best.score:
                best, model = run_result, trained  # the models of the other runs are freed
            del trained
    assert best is not None  # a job has at least one seed
    assert model is not None
    results = {**_results(job, task, run_results), "metric": job.metric, "best_seed": best.settings.seed, "grid": grid}
    if job.distillation:
        results["distillation"] = _teacher_results(job, trained_task, model)
    checkpoint = _checkpoint(job, task, best, results)
    sentences = [text[:PARITY_LENGTH] for row in job.examples["dev"] for text in texts_of(row)][:PARITY_SENTENCES]
    save_checkpoint(job.output / "model", checkpoint, model, job.start.vocab, sentences)
    _write_json(job.output / "results.json", results)
    if job.flags:
        _write_settings(job.output / "settings.yaml", job.flags)
    write_predictions(job.output, best.predictions)
    write_report(
        job.output / "report.html",
        title=f"Finetuning, {job.output.resolve().name}",
        results=results,
        labels={label: job.names.get(label, label) for label in task.labels},
        examples=job.examples,
        predictions=best.predictions,
        curves=[_curves(job, each) for each in run_results],
    )
    return checkpoint


def check_examples(examples: Parts) -> None:
    """Raises ValueError if train or dev is empty or unusable, or if a part has another kind of examples than train."""
    for part in ("train", "dev"):
        if not examples.get(part):
            raise ValueError(
                f"there are no {part} examples; give them with --{part}, or give a data set that has them."
            )
    first = examples["train"][0]
    if isinstance(first, Question):
        return
    for part, rows in examples.items():
        check_labels(examples["train"], rows if part != "train" else [])
    check_kinds(examples)
    if isinstance(first, TaggedSentence) and all(tag == "O" for row in examples["dev"] for tag in row.tags):
        where = examples["dev"][0].where or "dev"
        raise ValueError(
            f"{where}: every tag of dev is O, so dev cannot select the weights; give sentences with entities."
        )


def _check_unlabelled(first: Example, unlabelled: Sequence[Example]) -> None:
    for each in unlabelled:
        if (each.text_pair is None) != (first.text_pair is None):
            kinds = ("single texts", "a pair") if first.text_pair is None else ("pairs", "a single text")
            raise ValueError(
                f"{each.where or 'unlabelled'}: the unlabelled text is {kinds[1]}, but train has {kinds[0]}."
            )


def _resuming(job: FinetuneJob) -> FinetuneJob:
    """The job, whose runs may resume from its own checkpoints. Raises ValueError if --no-resume finds runs."""
    runs = job.output / "runs"
    if not job.run_settings.resume and runs.is_dir() and any(runs.iterdir()):
        raise ValueError(
            f"there are runs in {runs}; leave out --no-resume to resume from them, remove them, or choose another "
            "--output."
        )
    return dataclasses.replace(job, run_settings=dataclasses.replace(job.run_settings, resume=True))


def task_of(job: FinetuneJob) -> Task:
    """The task with the labels of the training examples."""
    train, length = job.examples["train"], job.settings.max_seq_length
    tokenizer = Tokenizer(job.start.vocab, job.start.tokenizer)
    if job.task == "question-answering":
        return QuestionAnswering(tokenizer, length, job.settings.doc_stride, job.settings.max_answer_length)
    if job.task == "token-classification":
        return TokenClassification(tokenizer, tag_names(train), length, scheme_of(train))
    labels = label_names(train)
    if job.is_multi_label:
        return MultiLabelClassification(tokenizer, labels, length)
    weights = balanced_weights(train, labels) if job.settings.class_weights == "balanced" else None
    return Classification(tokenizer, labels, length, weights)


@dataclass(frozen=True)
class _TrainedTask:
    """The task that the runs train, and its teachers."""

    task: Task
    teachers: Sequence[Teacher] = ()
    distillation: Mapping[str, Any] = field(default_factory=dict)
    """JSON: teachers and settings; part of the run's identity"""
    unlabelled: Mapping[str, int] = field(default_factory=dict)
    """number of unlabelled texts, and of evaluation examples that occur in them"""


def _trained_task(job: FinetuneJob, task: Task) -> _TrainedTask:
    """The task, with the losses of the teachers if there are any. Raises ValueError for a teacher that does not fit."""
    if not job.distillation:
        return _TrainedTask(task)
    settings, config = job.distillation.settings, job.start.config
    student = Student(config, job.start.vocab, job.settings.max_seq_length)
    teachers = [finetuned_teacher(each, task, student, settings) for each in job.distillation.teachers]
    taught = DistilledTask(task, teachers, settings, job.distillation.unlabelled, config.pad_token_id)
    unlabelled = job.distillation.unlabelled
    counts = {"texts": len(unlabelled), **unlabelled_overlap(job.examples, unlabelled)}
    return _TrainedTask(taught, teachers, distillation_identity(teachers, settings), counts)


def _best_of_grid(
    job: FinetuneJob, trained_task: _TrainedTask, stop: threading.Event
) -> tuple[FinetuneSettings, list[dict[str, Any]]]:
    """The settings with the learning rate and batch size that are best on dev with the first seed, as in CLUE.

    Also returns what was tried, with its score; an empty list if there was only one combination.
    """
    grid = [
        dataclasses.replace(job.settings, learning_rate=rate, batch_size=size, seed=job.seeds[0])
        for rate, size in itertools.product(
            job.learning_rates or [job.settings.learning_rate], job.batch_sizes or [job.settings.batch_size]
        )
    ]
    if len(grid) == 1:
        return grid[0], []
    scores = [(_train_run(job, trained_task, each, stop).figures[job.metric], each) for each in grid]
    for score, each in scores:
        log.info("learning rate %g, batch size %d: dev %s %.4f", each.learning_rate, each.batch_size, job.metric, score)
    tried = [
        {"learning_rate": each.learning_rate, "batch_size": each.batch_size, "score": score} for score, each in scores
    ]
    return max(scores, key=lambda pair: pair[0])[1], tried


def _train_run(
    job: FinetuneJob, trained_task: _TrainedTask, settings: FinetuneSettings, stop: threading.Event
) -> Finetuned:
    """One run, in its own folder below runs/; a finished run is read from its checkpoint."""
    if not stop.is_set():
        folder = _folder(job, settings)
        run = FinetuneRun(
            trained_task.task, job.start.config, job.examples, job.start.weights, settings, folder, job.run_settings,
            trained_task.distillation,
        )  # fmt: skip
        done = finetune(run)
    if stop.is_set():
        raise InterruptedRun("stopped between two runs; finished runs are saved; run the same command to resume.")
    return done


def _folder(job: FinetuneJob, settings: FinetuneSettings) -> Path:
    name = f"lr-{settings.learning_rate:g}-batch-{settings.batch_size}-seed-{settings.seed}"
    return job.output / "runs" / name


def _curves(job: FinetuneJob, run_result: RunResult) -> RunCurves:
    records = Records(_folder(job, run_result.settings) / "records.jsonl").read()
    return RunCurves(run_result.settings.seed, records, run_result.evaluations)


def _evaluate_run(
    job: FinetuneJob, trained_task: _TrainedTask, settings: FinetuneSettings, stop: threading.Event
) -> tuple[RunResult, nn.Layer]:
    """The result of a run, and its model."""
    done = _train_run(job, trained_task, settings, stop)
    figures, predictions = evaluate(trained_task.task, done.model, job.examples)
    run_result = RunResult(settings, done.step, done.figures[job.metric], done.evaluations, figures, predictions)
    return run_result, done.model


def _results(job: FinetuneJob, task: Task, run_results: Sequence[RunResult]) -> dict[str, Any]:
    """Settings and metrics of every run, with mean and standard deviation over the seeds."""
    parts = list(run_results[0].figures)
    return {
        "task": job.task,
        **scheme_name(task),
        **({"multi_label": True} if job.is_multi_label else {}),
        "pretrained": job.start.described,
        "settings": {**dataclasses.asdict(run_results[0].settings), "seed": list(job.seeds)},
        "figures": {
            part: {metric: spread([each.figures[part][metric] for each in run_results]) for metric in task.metrics}
            for part in parts
        },
        "runs": [
            {"seed": each.settings.seed, "best_step": each.step, "figures": dict(each.figures)} for each in run_results
        ],
    }


def _checkpoint(job: FinetuneJob, task: Task, best: RunResult, results: Mapping[str, Any]) -> Checkpoint:
    labels = [job.names.get(label, label) for label in task.labels]
    evaluation = {part: summary(figures) for part, figures in best.figures.items()}
    provenance = {
        "finetuning": dataclasses.asdict(best.settings),
        "labels": list(task.labels),  # as in the files
        **scheme_name(task),
        "step": best.step,
        "pretrained": job.start.described,
        "seeds": {"seeds": list(job.seeds), "figures": results["figures"]},
        **({"distillation": results["distillation"]} if "distillation" in results else {}),
    }
    # The service uses the length that was evaluated.
    length, tokenizer = best.settings.max_seq_length, job.start.tokenizer
    scores: Scores = "sigmoid" if job.is_multi_label else "softmax"
    return Checkpoint(job.start.config, job.task, length, labels, evaluation, provenance, tokenizer, scores)


def _teacher_results(job: FinetuneJob, trained_task: _TrainedTask, model: nn.Layer) -> dict[str, Any]:
    """Teachers and settings, and the metrics of the teachers themselves on the evaluation examples."""
    assert job.distillation
    return {
        "settings": dataclasses.asdict(job.distillation.settings),
        "unlabelled": dict(trained_task.unlabelled),
        "parameters": parameter_count(model),
        "teachers": [
            {
                **each.described(),
                "figures": {
                    part: summary(figures)
                    for part, figures in evaluate_model(each.directory, job.examples, job.task)[0].items()
                },
            }
            for each in trained_task.teachers
        ],
    }


def _write_settings(path: Path, flags: Mapping[str, Any]) -> None:
    """The flags in the form that `--config` reads."""
    import yaml

    with atomic_file(path) as file:
        yaml.safe_dump(dict(flags), file, allow_unicode=True, sort_keys=False)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    with atomic_file(path) as file:
        file.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
