"""`ernie-train distill`: trains a small model, the student, on the outputs of larger ones, the teachers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.cli.finetune import (
    FILES,
    FROM_SCRATCH,
    START,
    VOCAB,
    add_example_flags,
    add_flags_of_several_runs,
    add_output_flags,
    export,
    read_parts,
)
from training.cli.flags import Commands, add_command, add_flags, add_flags_of_ways, flag_values, from_flags, from_ways
from training.distilling.settings import DistillSettings
from training.finetuning.settings import FinetuneRunSettings, FinetuneSettings
from training.pretraining.settings import PretrainRunSettings, PretrainSettings

if TYPE_CHECKING:  # Paddle is imported only when the command runs
    from training.finetuning.starting_point import StartingPoint

EXAMPLES, CORPORA = "training on examples", "training on --corpus"
WAYS = {EXAMPLES: (FinetuneSettings, FinetuneRunSettings), CORPORA: (PretrainSettings, PretrainRunSettings)}
OF_EXAMPLES = ("task", "dataset", *FILES, "unlabelled", "seeds", "learning_rates", "batch_sizes")
EXAMPLE = (
    "ernie-train distill --teacher output/hotels/model --variant ernie-3.0-tiny-pico-v2-zh --dataset chnsenticorp "
    "--output output/small-hotels"
)


def add_distill_command(commands: Commands) -> None:
    """Adds the command."""
    parser = add_command(
        commands, "distill", _distill,
        "train a small model (student) on the outputs of larger ones (teachers); it learns from examples of a task or, "
        "with --corpus, from plain text; if the run is interrupted, the same command resumes it", EXAMPLE,
    )  # fmt: skip
    taught = parser.add_argument_group("teachers")
    taught.add_argument(
        "--teacher", type=Path, nargs="+", required=True, metavar="FOLDER",
        help="folders of the teachers: models finetuned for the task (with --corpus, pretrained models); "
        "the student learns the mean of their probabilities",
    )  # fmt: skip
    taught.add_argument(
        "--assistant", metavar="FOLDER_OR_NAME",
        help="first train a model of intermediate size and use it as the only teacher of the student; "
        "give a folder with weights, or the name of a published shape",
    )  # fmt: skip
    student = parser.add_argument_group("student")
    student.add_argument(
        "--variant", metavar="NAME",
        help="name of a published model, such as ernie-3.0-tiny-pico-v2-zh; the student has its shape and random "
        "weights",
    )  # fmt: skip
    student.add_argument("--pretrained", metavar="START", help=START)
    student.add_argument(
        "--vocab",
        type=Path,
        metavar="FILE",
        help=f"{VOCAB}; if --pretrained is a PaddleNLP name, the default is the teacher's vocabulary",
    )
    student.add_argument("--from-scratch", action=argparse.BooleanOptionalAction, default=False, help=FROM_SCRATCH)
    add_example_flags(parser)
    text = parser.add_argument_group("text")
    text.add_argument(
        "--unlabelled", type=Path, nargs="+", default=[], metavar="FILE",
        help="classification: files of unlabelled texts (one per line, or tables); the student learns the teachers' "
        "outputs for them",
    )  # fmt: skip
    text.add_argument(
        "--corpus", nargs="+", default=[], metavar="[WEIGHT] PREFIX",
        help="train on corpora instead of examples; they must be built with the teacher's vocabulary by "
        "`ernie-train corpus build`",
    )  # fmt: skip
    add_output_flags(parser.add_argument_group("actions and output"))
    add_flags_of_several_runs(parser)
    add_flags(parser, DistillSettings, "losses; they define what the student learns from the teachers")
    add_flags_of_ways(parser, WAYS)


def _distill(arguments: argparse.Namespace) -> None:
    if arguments.corpus:
        print(json.dumps(_from_corpora(arguments)))
    else:
        print(json.dumps(_from_examples(arguments)))
    if arguments.export:
        export(arguments)


def _from_examples(arguments: argparse.Namespace) -> Mapping[str, Any]:
    """The student's metrics by part."""
    from training.datasets.unlabelled import read_unlabelled
    from training.distilling.teacher_assistant import distill
    from training.distilling.teachers import Distillation
    from training.finetuning import evaluation
    from training.finetuning.job import FinetuneJob

    settings, run_settings = from_ways(arguments, WAYS, EXAMPLES)
    task, examples, names = read_parts(arguments, arguments.task)
    unlabelled = [each for path in arguments.unlabelled for each in read_unlabelled(path)]
    job = FinetuneJob(
        task, examples, _student(arguments), settings, arguments.output,
        seeds=arguments.seeds or [settings.seed],
        learning_rates=arguments.learning_rates, batch_sizes=arguments.batch_sizes,
        names=names, run_settings=run_settings, flags=flag_values(arguments),
        distillation=Distillation(arguments.teacher, from_flags(arguments, DistillSettings), unlabelled),
    )  # fmt: skip
    evaluation.warn_of_overlap(examples)
    evaluation.warn_of_unknown_tokens(examples, job.start.vocab, job.start.tokenizer)
    done = distill(job, arguments.assistant)
    return {part: evaluation.summary(found) for part, found in done.evaluation.items()}


def _from_corpora(arguments: argparse.Namespace) -> Mapping[str, Any]:
    """The student's metrics on the validation split."""
    from training.distilling.teacher_assistant import distill
    from training.distilling.teachers import Distillation
    from training.pretraining.initial_model import with_task_id
    from training.pretraining.loop import PretrainJob

    for name in OF_EXAMPLES:
        if getattr(arguments, name):
            raise ValueError(f"--{name.replace('_', '-')} is for {EXAMPLES}, not for {CORPORA}; leave it out.")
    settings, run_settings = from_ways(arguments, WAYS, CORPORA)
    point = _student(arguments)
    fresh = arguments.from_scratch or not arguments.pretrained
    job = PretrainJob(
        arguments.corpus, point.vocab, arguments.output, with_task_id(point.config, settings), settings, run_settings,
        start=None if fresh else arguments.pretrained,
        distillation=Distillation(arguments.teacher, from_flags(arguments, DistillSettings)),
    )  # fmt: skip
    return distill(job, arguments.assistant).evaluation


def _student(arguments: argparse.Namespace) -> StartingPoint:
    from training.distilling.student import known_student, new_student

    if bool(arguments.variant) == bool(arguments.pretrained):
        raise ValueError("give the student either by --variant NAME or by --pretrained START.")
    teacher = arguments.teacher[0]
    if arguments.variant and (arguments.vocab or arguments.from_scratch):
        raise ValueError(
            "--vocab and --from-scratch go with --pretrained; with --variant the student has the teacher's vocabulary."
        )
    if arguments.variant:
        return new_student(arguments.variant, teacher)
    return known_student(arguments.pretrained, teacher, arguments.vocab, from_scratch=arguments.from_scratch)
