"""`ernie-train`: data, vocabulary, corpora, pretraining, finetuning and distillation of ERNIE."""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import sys

from training.cli.corpus import add_corpus_commands
from training.cli.data import add_data_command
from training.cli.demo import add_demo_command
from training.cli.distill import add_distill_command
from training.cli.finetune import add_finetune_command
from training.cli.flags import with_config
from training.cli.overlap import add_overlap_command
from training.cli.pretrain import add_pretrain_command
from training.cli.vocab import add_vocab_commands
from training.runs import cpu_environment

# Each command imports Paddle only when it runs: `--help` is fast, and the CPU settings are set before the import.


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status: 0; 2 with one sentence on standard error; 130 when interrupted."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for room in ("training", "model_build"):  # importing Paddle raises the level of the root logger
        logging.getLogger(room).setLevel(logging.INFO)
    cpu_environment.prepare()
    try:
        commands = parser()
        arguments = commands.parse_args(with_config(sys.argv[1:] if argv is None else argv, commands))
        arguments.run(arguments)
    except (ValueError, RuntimeError, OSError) as error:
        print(f"ernie-train: {error}", file=sys.stderr)
        return 2
    except MemoryError:
        print("ernie-train: out of memory; for pretraining, lower --micro-tokens or give --recompute.", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(f"ernie-train: {error or 'interrupted.'}", file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="ernie-train",
        description="Trains ERNIE: text data, vocabulary, corpora, pretraining, finetuning and distillation.",
        epilog="Usual order: data (or your own text), vocab build, corpus build, pretrain, finetune, "
        "ernie-build export. "
        "`ernie-train COMMAND --help` explains each command.",
    )
    made.add_argument("--version", action="version", version=f"%(prog)s {importlib.metadata.version('ernie-zh')}")
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    add_data_command(commands)
    add_vocab_commands(commands)
    add_corpus_commands(commands)
    add_overlap_command(commands)
    add_pretrain_command(commands)
    add_finetune_command(commands)
    add_distill_command(commands)
    add_demo_command(commands)
    return made
