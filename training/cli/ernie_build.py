"""`ernie-build`: the commands of `model_build.cli`, and `quantize` and `prune-vocab`, which need training.

Both evaluate on examples, with the tasks and metrics of finetuning. `model_build` may not import those, so the console
script begins here and hands the two commands over.
"""

from __future__ import annotations

import argparse

from model_build import cli
from training.cli.compression import add_prune_vocab_command, add_quantize_command

COMMANDS = (add_quantize_command, add_prune_vocab_command)


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit statuses as those of `model_build.cli.main`."""
    return cli.main(argv, COMMANDS)


def parser() -> argparse.ArgumentParser:
    """The command line with all commands."""
    return cli.parser(COMMANDS)
