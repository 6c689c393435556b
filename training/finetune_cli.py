"""`ernie-train finetune`: from a pretrained model to one that classifies texts, tags tokens or finds answers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.flags import Commands, add_command, add_flags, from_flags, write_flags
from training.settings import FinetuneRunSettings, FinetuneSettings

if TYPE_CHECKING:  # what needs Paddle is imported when the command runs
    from training.finetune_job import FinetuneJob

FILES = ("train", "dev", "test")
TASKS = ("classify", "token-classification", "question-answering")
EXAMPLE = (
    "ernie-train finetune --pretrained output/ernie/model --dataset chnsenticorp --download --output output/hotels"
)


def add_finetune_command(commands: Commands) -> None:
    """Adds the command."""
    parser = add_command(
        commands, "finetune", _finetune,
        "finetune for texts, tokens or answers; without --do-… flags it trains, and evaluates on dev and test", EXAMPLE,
    )  # fmt: skip
    data = parser.add_argument_group("examples", "of a set known by name, or of files; docs/finetuning-data.md")
    data.add_argument("--task", choices=TASKS, help="what is learnt (default: the data set's, or classify)")
    data.add_argument("--dataset", metavar="NAME", help="a set known by name; a wrong one gives the list")
    data.add_argument("--data", type=Path, default=Path("data"), help="folder of the named sets (default: data)")
    data.add_argument(
        "--download", action=argparse.BooleanOptionalAction, default=False, help="let PaddleNLP download a named set"
    )
    data.add_argument("--train", type=Path, metavar="FILE", help="examples to learn from")
    data.add_argument("--dev", type=Path, metavar="FILE", help="examples that choose the weights")
    data.add_argument("--test", type=Path, metavar="FILE", help="examples for evaluation alone")
    start = parser.add_argument_group("beginning")
    start.add_argument(
        "--pretrained", required=True, metavar="START",
        help="a PaddleNLP name (ernie-3.0-nano-zh), or a folder with config.json, model_state.pdparams and vocab.txt",
    )  # fmt: skip
    start.add_argument(
        "--vocab", type=Path, metavar="FILE", help="vocabulary of --pretrained, if it has none beside it"
    )
    start.add_argument(
        "--from-scratch", action=argparse.BooleanOptionalAction, default=False,
        help="take shape and vocabulary of --pretrained, but random weights",
    )  # fmt: skip
    done = parser.add_argument_group("what is done")
    for flag, text in (
        ("--do-train", "train; the best weights go to OUTPUT/model"),
        ("--do-eval", "evaluate OUTPUT/model on dev and test, and print its figures"),
        ("--do-predict", "write OUTPUT/predictions/ of dev and test"),
        ("--export", "write a bundle of OUTPUT/model to --models"),
    ):
        done.add_argument(flag, action=argparse.BooleanOptionalAction, default=False, help=text)
    done.add_argument("--models", type=Path, default=Path("models"), help="model repository (default: models)")
    done.add_argument("--name", help="name of the bundle (default: the output folder's)")
    done.add_argument("--output", type=Path, required=True, help="folder for model, results, report and runs")
    done.add_argument("--config", type=Path, metavar="FILE", help="flags from a YAML file; the command line goes first")
    several = parser.add_argument_group("several runs")
    several.add_argument("--seeds", type=int, nargs="+", metavar="INT", help="a run each, with mean and spread")
    several.add_argument(
        "--learning-rates", type=float, nargs="+", default=[], metavar="FLOAT",
        help="tried with the first seed, with every one of --batch-sizes; the best on dev is taken",
    )  # fmt: skip
    several.add_argument("--batch-sizes", type=int, nargs="+", default=[], metavar="INT", help="likewise")
    add_flags(parser, FinetuneSettings, "training; the same settings give the same weights")
    add_flags(parser, FinetuneRunSettings, "the run; none of it changes the weights")


def _finetune(arguments: argparse.Namespace) -> None:
    from training import finetune_job

    job = _job(arguments)
    train, evaluate, predict = arguments.do_train, arguments.do_eval, arguments.do_predict
    if not (train or evaluate or predict):
        train = evaluate = True
    write_flags(arguments, job.output / "settings.yaml")
    finetune_job.warn_of_overlap(job.examples)
    if train:
        figures = finetune_job.run_job(job).evaluation  # predictions are written too
    elif evaluate or predict:
        figures, predictions = finetune_job.evaluate_model(job)
        if predict:
            finetune_job.write_predictions(job.output, predictions)
    if evaluate:
        print(json.dumps({part: finetune_job.summary(found) for part, found in figures.items()}))
    if arguments.export:
        _export(arguments)


def _job(arguments: argparse.Namespace) -> FinetuneJob:
    from training.datasets.named import NAMED
    from training.finetune_job import FinetuneJob
    from training.initial_weights import starting_point

    examples = _examples(arguments)
    if arguments.seeds and len(set(arguments.seeds)) < len(arguments.seeds):
        raise ValueError(f"--seeds {' '.join(map(str, arguments.seeds))} names a seed twice; every run needs its own.")
    named = NAMED[arguments.dataset] if arguments.dataset else None
    settings = from_flags(arguments, FinetuneSettings)
    start = starting_point(arguments.pretrained, arguments.vocab, from_scratch=arguments.from_scratch)
    if settings.max_seq_length > start.config.max_position_embeddings:
        raise ValueError(
            f"--max-seq-length {settings.max_seq_length} is longer than the {start.config.max_position_embeddings} "
            f"positions of {arguments.pretrained}; lower it."
        )
    return FinetuneJob(
        named.task if named else arguments.task or "classify",
        examples, start, settings, arguments.output,
        seeds=arguments.seeds or [settings.seed],
        learning_rates=arguments.learning_rates, batch_sizes=arguments.batch_sizes,
        names=named.labels if named else {}, how=from_flags(arguments, FinetuneRunSettings),
    )  # fmt: skip


def _examples(arguments: argparse.Namespace) -> Mapping[str, Sequence[Any]]:
    """Parts of the named set, or of the files; raises ValueError for neither and for both."""
    from training.datasets.named import NAMED, load_named
    from training.datasets.squad import read_questions
    from training.datasets.table import read_examples
    from training.datasets.tagged import read_tagged

    files = {part: path for part in FILES if (path := getattr(arguments, part))}
    if bool(files) == bool(arguments.dataset):
        raise ValueError("give the examples either as --dataset NAME or as --train, --dev and --test files.")
    if arguments.dataset:
        parts = load_named(arguments.dataset, arguments.data, arguments.download)
        if arguments.task not in (None, NAMED[arguments.dataset].task):
            raise ValueError(f"{arguments.dataset} is for {NAMED[arguments.dataset].task}, not for {arguments.task}.")
        return parts
    read: Mapping[str, Callable[[Path], Sequence[Any]]] = {
        "classify": read_examples,
        "token-classification": read_tagged,
        "question-answering": read_questions,
    }
    return {part: read[arguments.task or "classify"](path) for part, path in files.items()}


def _export(arguments: argparse.Namespace) -> None:
    from model_build.cli import describe
    from model_build.export import export_checkpoint, next_version

    name = arguments.name or arguments.output.resolve().name
    version = next_version(arguments.models / name)
    describe(export_checkpoint(arguments.output / "model", arguments.models, name=name, version=version))
