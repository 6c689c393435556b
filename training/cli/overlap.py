"""`ernie-train overlap`: counts evaluation texts that also occur in training text."""

from __future__ import annotations

import argparse
from pathlib import Path

from training.cli.flags import Commands, add_command


def add_overlap_command(commands: Commands) -> None:
    """Adds the command."""
    parser = add_command(
        commands, "overlap", _overlap,
        "count evaluation texts that also occur in the training text; "
        "case, character width, punctuation and spaces are ignored",
        "ernie-train overlap --training train.tsv data/corpus/*.txt --evaluation test.tsv",
    )  # fmt: skip
    parser.add_argument(
        "--training", type=Path, nargs="+", required=True, help="text files, labelled files, or prefixes of corpora"
    )
    parser.add_argument("--vocab", type=Path, help="vocabulary of the corpora; required if --training names corpora")
    parser.add_argument("--evaluation", type=Path, required=True, help="labelled file, or text file")


def _overlap(arguments: argparse.Namespace) -> None:
    from training.corpus.verify import open_with_vocabulary
    from training.datasets.overlap import overlapping, overlapping_corpora
    from training.datasets.texts import read_texts

    evaluation = read_texts(arguments.evaluation)
    texts = [path for path in arguments.training if path.is_file()]
    found = set(overlapping([text for path in texts for text in read_texts(path)], evaluation))
    if prefixes := [path for path in arguments.training if not path.is_file()]:
        if not arguments.vocab:
            raise ValueError(
                f"{prefixes[0]} is not a file, so it is read as a corpus; give its vocabulary with --vocab."
            )
        corpora = [open_with_vocabulary(prefix, arguments.vocab) for prefix in prefixes]
        found |= set(overlapping_corpora(corpora, arguments.vocab, evaluation))
    print(f"{len(found)} of {len(evaluation)} evaluation texts occur in the training text")
    for index in sorted(found)[:5]:
        print(f"  text {index + 1}: {evaluation[index][:60]}")
