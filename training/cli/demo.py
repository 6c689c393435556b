"""`ernie-train demo`: trains and exports the two models that this repository contains."""

from __future__ import annotations

import argparse
from pathlib import Path

from training.cli.flags import Commands, add_command


def add_demo_command(commands: Commands) -> None:
    """Adds the command."""
    parser = add_command(
        commands, "demo", _demo,
        "train and export the two models of this repository, a masked LM and a sentiment classifier; "
        "downloads text if --data has no corpus/ folder; if the command is interrupted, the same command resumes it",
        "ernie-train demo --output output/demo --models models",
    )  # fmt: skip
    parser.add_argument(
        "--data", type=Path, default=Path("data"), help="folder with corpus/ and classification/ (default: data)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("output/demo"),
        help="folder for intermediate results (default: output/demo)",
    )
    parser.add_argument("--models", type=Path, default=Path("models"), help="model repository (default: models)")
    parser.add_argument(
        "--share",
        type=float,
        default=1.0,
        metavar="FLOAT",
        help="share of the pretraining steps to run; a small value, such as 0.01, is a quick trial (default: 1)",
    )


def _demo(arguments: argparse.Namespace) -> None:
    from model_build.cli import describe
    from training.demo import demo

    for bundle in demo(arguments.data, arguments.output, arguments.models, arguments.share):
        describe(bundle)
