"""`ernie-train pretrain`: ERNIE from corpora."""

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
        "pretrain ERNIE on corpora; masked LM and sentence order, goes on where a killed run stopped",
        "ernie-train pretrain --corpus output/corpus --vocab output/vocab.txt --output output/ernie",
    )  # fmt: skip
    parser.add_argument(
        "--corpus", nargs="+", required=True, metavar="[WEIGHT] PREFIX",
        help="corpora as `ernie-train corpus build` makes them; without weights every sample counts alike",
    )  # fmt: skip
    parser.add_argument("--vocab", type=Path, required=True, help="vocabulary the corpora were built with")
    parser.add_argument("--output", type=Path, required=True, help="folder for checkpoints, model and report")
    parser.add_argument(
        "--start", help="weights to start from: a PaddleNLP name, a folder, or a .pdparams file (default: random)"
    )
    parser.add_argument(
        "--evaluation", type=Path, nargs="*", default=[],
        help="evaluation sets, .tsv or text; what of them stands in the corpora is counted and warned of",
    )  # fmt: skip
    add_flags(parser, ShapeSettings, "shape")
    add_flags(parser, PretrainSettings, "training; the same settings give the same weights")
    add_flags(parser, PretrainRunSettings, "the run; none of it changes the weights")


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
