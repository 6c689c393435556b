"""`ernie-train distill`: a small model that learns from larger ones, for a task or from text."""

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

if TYPE_CHECKING:  # what needs Paddle is imported when the command runs
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
        "teach a small model what larger ones know; from examples of a task, or with --corpus from text", EXAMPLE,
    )  # fmt: skip
    taught = parser.add_argument_group("teachers")
    taught.add_argument(
        "--teacher", type=Path, nargs="+", required=True, metavar="FOLDER",
        help="models finetuned for the task, whose probabilities are averaged; with --corpus, pretrained ones",
    )  # fmt: skip
    taught.add_argument(
        "--assistant", metavar="FOLDER_OR_NAME",
        help="a model in between, which learns first and then teaches: a folder with weights, or a published shape",
    )  # fmt: skip
    student = parser.add_argument_group("student")
    student.add_argument("--variant", metavar="NAME", help="a published shape, with random weights")
    student.add_argument("--pretrained", metavar="START", help=START)
    student.add_argument("--vocab", type=Path, metavar="FILE", help=f"{VOCAB} (a PaddleNLP name: the teacher's)")
    student.add_argument("--from-scratch", action=argparse.BooleanOptionalAction, default=False, help=FROM_SCRATCH)
    add_example_flags(parser)
    text = parser.add_argument_group("text")
    text.add_argument(
        "--unlabelled", type=Path, nargs="+", default=[], metavar="FILE",
        help="classification: more texts, learnt from the teacher alone: one a line, or tables",
    )  # fmt: skip
    text.add_argument(
        "--corpus", nargs="+", default=[], metavar="[WEIGHT] PREFIX",
        help="instead of examples: corpora as `ernie-train corpus build` makes them, with the teacher's vocabulary",
    )  # fmt: skip
    add_output_flags(parser.add_argument_group("what is done"))
    add_flags_of_several_runs(parser)
    add_flags(parser, DistillSettings, "what is learnt from the teacher")
    add_flags_of_ways(parser, WAYS)


def _distill(arguments: argparse.Namespace) -> None:
    if arguments.corpus:
        print(json.dumps(_from_corpora(arguments)))
    else:
        print(json.dumps(_from_examples(arguments)))
    if arguments.export:
        export(arguments)


def _from_examples(arguments: argparse.Namespace) -> Mapping[str, Any]:
    """The student's figures by part."""
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
    done = distill(job, arguments.assistant)
    return {part: evaluation.summary(found) for part, found in done.evaluation.items()}


def _from_corpora(arguments: argparse.Namespace) -> Mapping[str, Any]:
    """The student's figures on the validation split."""
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
        raise ValueError("give the student either as --variant NAME or as --pretrained START.")
    teacher = arguments.teacher[0]
    if arguments.variant and (arguments.vocab or arguments.from_scratch):
        raise ValueError("--vocab and --from-scratch are for --pretrained; --variant has the teacher's vocabulary.")
    if arguments.variant:
        return new_student(arguments.variant, teacher)
    return known_student(arguments.pretrained, teacher, arguments.vocab, from_scratch=arguments.from_scratch)
