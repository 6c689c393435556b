"""`ernie-train finetune`: trains and evaluates a classifier, a token tagger or a question-answering model."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.cli.flags import Commands, add_command, add_flags, flag_values, from_flags
from training.datasets.examples import TaskName
from training.finetuning.settings import FinetuneRunSettings, FinetuneSettings

if TYPE_CHECKING:  # Paddle is imported only when the command runs
    from training.finetuning.job import FinetuneJob

Parts = Mapping[str, Sequence[Any]]
FILES = ("train", "dev", "test")
TABLES = (".tsv", ".csv", ".jsonl")
TASKS = ("classify", "token-classification", "question-answering")
START = (
    "name of a PaddleNLP model, such as ernie-3.0-nano-zh, "
    "or folder of ernie-train, PaddleNLP or Hugging Face with config.json, vocab.txt and weights of ERNIE or BERT"
)
VOCAB = "vocabulary of --pretrained, if its folder has no vocab.txt"
FROM_SCRATCH = "use only the shape and the vocabulary of --pretrained, with random weights"
EXAMPLE = (
    "ernie-train finetune --pretrained output/ernie/model --dataset chnsenticorp --download --output output/hotels"
)


def add_finetune_command(commands: Commands) -> None:
    """Adds the command."""
    parser = add_command(
        commands, "finetune", _finetune,
        "finetune a pretrained model to classify texts, tag tokens or answer questions; without a --do-... flag, it "
        "trains and then evaluates on dev and test; if the run is interrupted, the same command resumes it", EXAMPLE,
    )  # fmt: skip
    add_example_flags(parser)
    start = parser.add_argument_group("pretrained model")
    start.add_argument("--pretrained", metavar="START", help=f"{START}; required for training")
    start.add_argument("--vocab", type=Path, metavar="FILE", help=VOCAB)
    start.add_argument("--from-scratch", action=argparse.BooleanOptionalAction, default=False, help=FROM_SCRATCH)
    done = parser.add_argument_group("actions and output")
    for flag, text in (
        ("--do-train", "train; the best weights are written to OUTPUT/model"),
        ("--do-eval", "evaluate OUTPUT/model on dev and test and print the metrics"),
        ("--do-predict", "write the predictions for dev and test to OUTPUT/predictions/"),
    ):
        done.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
    add_output_flags(done)
    add_flags_of_several_runs(parser)
    add_flags(parser, FinetuneSettings, "training; the same settings give the same weights")
    add_flags(parser, FinetuneRunSettings, "execution; these flags do not change the weights")


def add_example_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that `read_parts` reads."""
    data = parser.add_argument_group("examples", "either --dataset, or files; docs/finetuning-data.md describes both")
    data.add_argument("--task", choices=TASKS, help="task (default: the task of --dataset; for files, `classify`)")
    data.add_argument(
        "--multi-label", action=argparse.BooleanOptionalAction, default=None,
        help="a text may have any number of labels: the label column has them with --label-separator between them, a "
        ".jsonl has a list, and a .txt has lines of text, tab and labels (default: one label a text; a file that looks "
        "otherwise is an error)",
    )  # fmt: skip
    data.add_argument(
        "--label-separator", default=",", metavar="TEXT", help="with --multi-label: text between labels (default: ,)"
    )
    add_set_flags(data)
    data.add_argument("--train", type=Path, metavar="FILE", help="training examples")
    data.add_argument("--dev", type=Path, metavar="FILE", help="development examples, which select the best weights")
    data.add_argument("--test", type=Path, metavar="FILE", help="test examples, only evaluated")


def add_set_flags(data: Any) -> None:
    """Adds the flags for a data set known by name to a group."""
    data.add_argument(
        "--dataset",
        metavar="NAME",
        help="name of a known data set; if the name is unknown, the command prints the list of names",
    )
    data.add_argument(
        "--data", type=Path, default=Path("data"), help="folder with the files of the named data sets (default: data)"
    )
    data.add_argument(
        "--download",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="download the named data set with PaddleNLP",
    )


def add_output_flags(done: Any) -> None:
    """Adds the flags for output folder, export and --config to a group."""
    done.add_argument(
        "--export", action=argparse.BooleanOptionalAction, default=False,
        help="export OUTPUT/model to a bundle in --models",
    )  # fmt: skip
    done.add_argument(
        "--models", type=Path, default=Path("models"), help="model repository for --export (default: models)"
    )
    done.add_argument("--name", help="name of the bundle (default: name of the output folder)")
    done.add_argument(
        "--output",
        type=Path,
        required=True,
        help="folder for model/, results.json, report.html, predictions/ and runs/",
    )
    done.add_argument(
        "--config", type=Path, metavar="FILE", help="YAML file with flags; flags on the command line take precedence"
    )


def add_flags_of_several_runs(parser: argparse.ArgumentParser) -> None:
    """Adds the flags for several seeds and for a grid."""
    several = parser.add_argument_group("several runs")
    several.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        metavar="INT",
        help="one run per seed; the report gives mean and standard deviation",
    )
    several.add_argument(
        "--learning-rates", type=float, nargs="+", default=[], metavar="FLOAT",
        help="learning rates to try; each is combined with each of --batch-sizes and run with the first seed; "
        "all seeds then use the combination that is best on dev",
    )  # fmt: skip
    several.add_argument(
        "--batch-sizes", type=int, nargs="+", default=[], metavar="INT", help="batch sizes to try; see --learning-rates"
    )


def _finetune(arguments: argparse.Namespace) -> None:
    from training.finetuning import evaluation
    from training.finetuning.job import run_job

    train, evaluate, predict = _actions(arguments)
    figures: Mapping[str, Mapping[str, Any]] = {}
    if train:
        job = _job(arguments)
        evaluation.warn_of_overlap(job.examples)
        figures = run_job(job).evaluation  # also writes the predictions
    elif evaluate or predict:
        figures = _evaluate(arguments, predict)
    if evaluate:
        print(json.dumps({part: evaluation.summary(found) for part, found in figures.items()}))
    if arguments.export:
        export(arguments)


def _actions(arguments: argparse.Namespace) -> tuple[bool, bool, bool]:
    """Whether to train, evaluate and predict: as the flags say; without flags, train and evaluate.

    Raises ValueError if there is nothing to do.
    """
    asked = (arguments.do_train, arguments.do_eval, arguments.do_predict)
    train, evaluate, predict = map(bool, asked)
    if not any(asked):
        train, evaluate = (flag is not False for flag in asked[:2])
    if not (train or evaluate or predict or arguments.export):
        raise ValueError("there is nothing to do; give --do-train, --do-eval, --do-predict or --export.")
    return train, evaluate, predict


def _evaluate(arguments: argparse.Namespace, predict: bool) -> Mapping[str, Mapping[str, Any]]:
    """Metrics of the model in the output folder by part; writes its predictions if `predict` is set."""
    from model_build.checkpoint import read_checkpoint
    from training.finetuning import evaluation

    directory = arguments.output / "model"
    if arguments.multi_label is None and (directory / "config.json").is_file():
        arguments.multi_label = read_checkpoint(directory).scores == "sigmoid" or None
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
        raise ValueError("training needs --pretrained, a PaddleNLP name or a folder; to only evaluate, give --do-eval.")
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
    """Task, examples by part, and names of the labels, from --dataset or from files.

    If `task` is not given, it is the data set's own task, and files are read as tables of labelled texts. Raises
    ValueError if both or neither of --dataset and files are given, and if the task does not fit.
    """
    from training.datasets.multi_label import check_single, read_multi_label
    from training.datasets.registry import NAMED, load_named
    from training.datasets.squad import read_questions
    from training.datasets.table import read_examples
    from training.datasets.tagged import read_tagged

    files = {part: path for part in FILES if (path := getattr(arguments, part))}
    if bool(files) == bool(arguments.dataset):
        raise ValueError("give the examples either by --dataset NAME or by the files --train, --dev and --test.")
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
        raise ValueError(f"{arguments.output / 'model'} is for {task}, which is not a task of finetuning.")
    multi_label = getattr(arguments, "multi_label", None)
    if multi_label and task in (None, "classify"):
        several: Parts = {part: read_multi_label(path, arguments.label_separator) for part, path in files.items()}
        return "classify", several, {}
    if multi_label:
        raise ValueError(f"--multi-label is for classification, not for {task}; leave it out.")
    for path in files.values():
        if not task and path.suffix not in TABLES:
            raise ValueError(f"{path}: not a table of labelled texts ({', '.join(TABLES)}); give --task.")
    kind, reader = read[task or "classify"]
    parts = {part: list(reader(path)) for part, path in files.items()}
    if multi_label is None and kind == "classify":
        check_single(parts)
    return kind, parts, {}


def export(arguments: argparse.Namespace) -> None:
    """Exports OUTPUT/model to a bundle, as the next version of its name."""
    from model_build.cli import describe
    from model_build.export import export_checkpoint, next_version

    name = arguments.name or arguments.output.resolve().name
    version = next_version(arguments.models / name)
    describe(export_checkpoint(arguments.output / "model", arguments.models, name=name, version=version))
