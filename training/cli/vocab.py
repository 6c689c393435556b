"""`ernie-train vocab`: builds a vocabulary from text."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from training.cli.flags import Commands, add_command, add_flags, from_flags
from training.corpus.settings import VocabularySettings

INPUT = ".txt or .jsonl file, plain or compressed (.gz, .zst), or a folder of such files"
EXAMPLE = "ernie-train vocab build data/corpus --size 8000 --output output/vocab.txt"


def add_vocab_commands(commands: Commands) -> None:
    """Adds the group of commands."""
    text = "build a vocabulary from text"
    group = add_command(commands, "vocab", None, text, EXAMPLE).add_subparsers(required=True, metavar="COMMAND")
    text = (
        "count the characters and subwords of text and write a vocabulary; its order is: special tokens, letters and "
        "digits, frequent subwords, characters (most frequent first)"
    )
    build = add_command(group, "build", _vocab, text, EXAMPLE)
    build.add_argument("inputs", type=Path, nargs="+", metavar="INPUT", help=INPUT)
    build.add_argument("--output", type=Path, required=True, help="vocabulary file to write, one token per line")
    add_flags(build, VocabularySettings, "vocabulary")


def _vocab(arguments: argparse.Namespace) -> None:
    from training.corpus.vocabulary import vocabulary_from_files

    settings = from_flags(arguments, VocabularySettings)
    report = vocabulary_from_files(arguments.inputs, arguments.output, settings)
    print(f"wrote {report['tokens']:,} tokens to {arguments.output}")
    print(json.dumps(report, ensure_ascii=False))
