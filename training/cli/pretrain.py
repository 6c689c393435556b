"""`ernie-train pretrain`: pretrains ERNIE on corpora."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from training.cli.flags import Commands, add_command, add_flags, from_flags
from training.pretraining.settings import PretrainRunSettings, PretrainSettings, ShapeSettings


def add_pretrain_command(commands: Commands) -> None:
    """Adds the command."""
    parser = add_command(
        commands, "pretrain", _pretrain,
        "pretrain ERNIE with masked LM and sentence order; if the run is interrupted, the same command resumes it",
        "ernie-train pretrain --corpus output/corpus --vocab output/vocab.txt --output output/ernie",
    )  # fmt: skip
    parser.add_argument(
        "--corpus", nargs="+", required=True, metavar="[WEIGHT] PREFIX",
        help="corpora built by `ernie-train corpus build`; you can write a weight before each, such as 0.7 A 0.3 B; "
        "without weights, all corpora have equal weights",
    )  # fmt: skip
    parser.add_argument("--vocab", type=Path, required=True, help="vocabulary that the corpora were built with")
    parser.add_argument(
        "--output", type=Path, required=True, help="folder for checkpoints/, model/, records and report.html"
    )
    parser.add_argument(
        "--start",
        help="initial weights: name of a PaddleNLP model, folder, or .pdparams file (default: random weights)",
    )
    parser.add_argument(
        "--evaluation", type=Path, nargs="*", default=[],
        help="labelled files or text files; the command counts and reports the texts of these files that also occur in "
        "the corpora",
    )  # fmt: skip
    add_flags(parser, ShapeSettings, "model shape")
    add_flags(parser, PretrainSettings, "training; the same settings give the same weights")
    add_flags(parser, PretrainRunSettings, "execution; these flags do not change the weights")


def _pretrain(arguments: argparse.Namespace) -> None:
    from training.datasets.overlap import overlap_of
    from training.pretraining.initial_model import shape_of
    from training.pretraining.loop import PretrainJob, pretrain

    settings = from_flags(arguments, PretrainSettings)
    provenance = {}
    if arguments.evaluation:
        provenance["overlap"] = overlap_of(arguments.corpus, arguments.vocab, arguments.evaluation)
    job = PretrainJob(
        arguments.corpus,
        arguments.vocab,
        arguments.output,
        shape_of(from_flags(arguments, ShapeSettings), settings, arguments.start, arguments.vocab),
        settings,
        from_flags(arguments, PretrainRunSettings),
        arguments.start,
        provenance,
    )
    print(json.dumps(pretrain(job).evaluation))
