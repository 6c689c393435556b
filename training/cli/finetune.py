"""`ernie-train finetune`: from a pretrained model to one that classifies texts, tags tokens or finds answers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.cli.flags import Commands, add_command, add_flags, flag_values, from_flags
from training.finetuning.settings import FinetuneRunSettings, FinetuneSettings

if TYPE_CHECKING:  # what needs Paddle is imported when the command runs
    from training.finetuning.job import FinetuneJob
    from training.tasks.task import TaskName

FILES = ("train", "dev", "test")
TABLES = (".tsv", ".csv", ".jsonl")
TASKS = ("classify", "token-classification", "question-answering")
START = "a PaddleNLP name (ernie-3.0-nano-zh), or a folder with config.json, model_state.pdparams and vocab.txt"
VOCAB = "vocabulary of --pretrained, if it has none beside it"
FROM_SCRATCH = "take shape and vocabulary of --pretrained, but random weights"
EXAMPLE = (
    "ernie-train finetune --pretrained output/ernie/model --dataset chnsenticorp --download --output output/hotels"
)


def add_finetune_command(commands: Commands) -> None:
    """Adds the command."""
    parser = add_command(
        commands, "finetune", _finetune,
        "finetune for texts, tokens or answers; without --do-… flags it trains, and evaluates on dev and test", EXAMPLE,
    )  # fmt: skip
    add_example_flags(parser)
    start = parser.add_argument_group("beginning")
    start.add_argument("--pretrained", metavar="START", help=f"{START}; training needs it")
    start.add_argument("--vocab", type=Path, metavar="FILE", help=VOCAB)
    start.add_argument("--from-scratch", action=argparse.BooleanOptionalAction, default=False, help=FROM_SCRATCH)
    done = parser.add_argument_group("what is done")
    for flag, text in (
        ("--do-train", "train; the best weights go to OUTPUT/model"),
        ("--do-eval", "evaluate OUTPUT/model on dev and test, and print its figures"),
        ("--do-predict", "write OUTPUT/predictions/ of dev and test"),
    ):
        done.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
    add_output_flags(done)
    add_flags_of_several_runs(parser)
    add_flags(parser, FinetuneSettings, "training; the same settings give the same weights")
    add_flags(parser, FinetuneRunSettings, "the run; none of it changes the weights")


def add_example_flags(parser: argparse.ArgumentParser) -> None:
    """What `read_parts` reads."""
    data = parser.add_argument_group("examples", "of a set known by name, or of files; docs/finetuning-data.md")
    data.add_argument("--task", choices=TASKS, help="what is learnt (default: the data set's, or classify)")
    add_set_flags(data)
    data.add_argument("--train", type=Path, metavar="FILE", help="examples to learn from")
    data.add_argument("--dev", type=Path, metavar="FILE", help="examples that choose the weights")
    data.add_argument("--test", type=Path, metavar="FILE", help="examples for evaluation alone")


def add_set_flags(data: Any) -> None:
    """A data set by name; to a group of flags."""
    data.add_argument("--dataset", metavar="NAME", help="a set known by name; a wrong one gives the list")
    data.add_argument("--data", type=Path, default=Path("data"), help="folder of the named sets (default: data)")
    data.add_argument(
        "--download", action=argparse.BooleanOptionalAction, default=False, help="let PaddleNLP download a named set"
    )


def add_output_flags(done: Any) -> None:
    """Where the results go, and what `export` does; to a group of flags."""
    done.add_argument(
        "--export", action=argparse.BooleanOptionalAction, default=False,
        help="write a bundle of OUTPUT/model to --models",
    )  # fmt: skip
    done.add_argument("--models", type=Path, default=Path("models"), help="model repository (default: models)")
    done.add_argument("--name", help="name of the bundle (default: the output folder's)")
    done.add_argument("--output", type=Path, required=True, help="folder for model, results, report and runs")
    done.add_argument("--config", type=Path, metavar="FILE", help="flags from a YAML file; the command line wins")


def add_flags_of_several_runs(parser: argparse.ArgumentParser) -> None:
    """Seeds, and a grid."""
    several = parser.add_argument_group("several runs")
    several.add_argument("--seeds", type=int, nargs="+", metavar="INT", help="a run each, with mean and spread")
    several.add_argument(
        "--learning-rates", type=float, nargs="+", default=[], metavar="FLOAT",
        help="tried with the first seed, with every one of --batch-sizes; the best on dev is taken",
    )  # fmt: skip
    several.add_argument("--batch-sizes", type=int, nargs="+", default=[], metavar="INT", help="likewise")


def _finetune(arguments: argparse.Namespace) -> None:
    from training.finetuning import evaluation
    from training.finetuning.job import run_job

    train, evaluate, predict = _what_is_done(arguments)
    figures: Mapping[str, Mapping[str, Any]] = {}
    if train:
        job = _job(arguments)
        evaluation.warn_of_overlap(job.examples)
        figures = run_job(job).evaluation  # predictions are written too
    elif evaluate or predict:
        figures = _evaluate(arguments, predict)
    if evaluate:
        print(json.dumps({part: evaluation.summary(found) for part, found in figures.items()}))
    if arguments.export:
        export(arguments)


def _what_is_done(arguments: argparse.Namespace) -> tuple[bool, bool, bool]:
    """Whether to train, evaluate and predict: what is asked for; if nothing is, the first two unless they are denied.

    Raises ValueError where nothing is left to do.
    """
    asked = (arguments.do_train, arguments.do_eval, arguments.do_predict)
    train, evaluate, predict = map(bool, asked)
    if not any(asked):
        train, evaluate = (flag is not False for flag in asked[:2])
    if not (train or evaluate or predict or arguments.export):
        raise ValueError("nothing is left to do; give --do-train, --do-eval, --do-predict or --export.")
    return train, evaluate, predict


def _evaluate(arguments: argparse.Namespace, predict: bool) -> Mapping[str, Mapping[str, Any]]:
    """Figures of the model in the output folder, by part; `predict` writes its predictions too."""
    from model_build.checkpoint import read_checkpoint
    from training.finetuning import evaluation

    directory = arguments.output / "model"
    task = arguments.task or ("" if arguments.dataset else read_checkpoint(directory).task)
    task, examples, _ = read_parts(arguments, task)
    evaluation.warn_of_overlap(examples)
    figures, predictions = evaluation.evaluate_model(directory, examples, task)
    if predict:
        evaluation.write_predictions(arguments.output, predictions)
    return figures


def _job(arguments: argparse.Namespace) -> FinetuneJob:
    from training.finetuning.job import FinetuneJob
    from training.finetuning.starting_point import starting_point

    if not arguments.pretrained:
        raise ValueError("--pretrained is needed to train: a PaddleNLP name or a folder; --do-eval alone needs none.")
    task, examples, names = read_parts(arguments, arguments.task)
    settings = from_flags(arguments, FinetuneSettings)
    start = starting_point(arguments.pretrained, arguments.vocab, from_scratch=arguments.from_scratch)
    return FinetuneJob(
        task, examples, start, settings, arguments.output,
        seeds=arguments.seeds or [settings.seed],
        learning_rates=arguments.learning_rates, batch_sizes=arguments.batch_sizes,
        names=names, run_settings=from_flags(arguments, FinetuneRunSettings), flags=flag_values(arguments),
    )  # fmt: skip


def read_parts(
    arguments: argparse.Namespace, task: str | None
) -> tuple[TaskName, Mapping[str, Sequence[Any]], Mapping[str, str]]:
    """Task, parts and names of the labels, of the named set or the files; ValueError for neither and for both.

    Without a task it is the set's, or files are tables of labelled texts.
    """
    from training.datasets.registry import NAMED, load_named
    from training.datasets.squad import read_questions
    from training.datasets.table import read_examples
    from training.datasets.tagged import read_tagged

    files = {part: path for part in FILES if (path := getattr(arguments, part))}
    if bool(files) == bool(arguments.dataset):
        raise ValueError("give the examples either as --dataset NAME or as --train, --dev and --test files.")
    if arguments.dataset:
        parts = load_named(arguments.dataset, arguments.data, arguments.download)
        named = NAMED[arguments.dataset]
        if task and task != named.task:
            raise ValueError(f"{arguments.dataset} is for {named.task}, not for {task}.")
        return named.task, parts, named.labels
    read: Mapping[str, tuple[TaskName, Callable[[Path], Sequence[Any]]]] = {
        "classify": ("classify", read_examples),
        "token-classification": ("token-classification", read_tagged),
        "question-answering": ("question-answering", read_questions),
    }
    if task and task not in read:
        raise ValueError(f"{arguments.output / 'model'} is for {task}, which is no task of finetuning.")
    for path in files.values():
        if not task and path.suffix not in TABLES:
            raise ValueError(f"{path}: not a table of a known kind; give {', '.join(TABLES)}, or say --task.")
    kind, reader = read[task or "classify"]
    return kind, {part: reader(path) for part, path in files.items()}, {}


def export(arguments: argparse.Namespace) -> None:
    """Writes a bundle of OUTPUT/model as the next version of its name."""
    from model_build.cli import describe
    from model_build.export import export_checkpoint, next_version

    name = arguments.name or arguments.output.resolve().name
    version = next_version(arguments.models / name)
    describe(export_checkpoint(arguments.output / "model", arguments.models, name=name, version=version))
