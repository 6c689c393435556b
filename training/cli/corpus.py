"""`ernie-train corpus`: builds, inspects, merges, verifies and converts corpora."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from training.cli.flags import Commands, add_command, add_flags, from_flags
from training.cli.vocab import INPUT
from training.corpus.settings import BuildSettings, CorpusSettings

PREFIX = "path of the corpus without suffix; the files are PREFIX.bin, PREFIX.idx, PREFIX.seg and PREFIX.json"
WRITTEN = "path of the new corpus without suffix"


def add_corpus_commands(commands: Commands) -> None:
    """Adds `corpus` with its subcommands."""
    parser = add_command(
        commands,
        "corpus",
        None,
        "build and check pretraining corpora; tokens are in .bin and .idx (Megatron's format), word boundaries in .seg",
        "ernie-train corpus build text --vocab vocab.txt --output data/corpus",
    )
    group = parser.add_subparsers(required=True, metavar="COMMAND")
    build = add_command(
        group,
        "build",
        _build,
        "build a corpus from text: tokenise it and mark words, phrases and entities; "
        "if the build is interrupted, the same command resumes it",
        "ernie-train corpus build text/ more.jsonl.zst --vocab vocab.txt --output data/corpus",
    )
    build.add_argument("inputs", type=Path, nargs="+", metavar="INPUT", help=INPUT)
    build.add_argument("--vocab", type=Path, required=True, help="vocabulary file, one token per line")
    build.add_argument("--output", type=Path, required=True, metavar="PREFIX", help=PREFIX)
    add_flags(build, CorpusSettings, "the corpus")
    add_flags(build, BuildSettings, "execution; these flags do not change the result")

    inspect = add_command(
        group,
        "inspect",
        _inspect,
        "show counts, lengths and sample sentences; units are marked as [word], {phrase} and <entity>",
        "ernie-train corpus inspect data/corpus --vocab vocab.txt",
    )
    inspect.add_argument("prefix", type=Path, metavar="PREFIX", help=PREFIX)
    inspect.add_argument("--vocab", type=Path, help="vocabulary file; without it, token ids are shown instead of text")
    inspect.add_argument(
        "--samples", type=int, default=5, metavar="INT", help="number of sentences to show (default: 5)"
    )

    merge = add_command(
        group,
        "merge",
        _merge,
        "join several corpora of the same vocabulary into one; duplicate documents are kept",
        "ernie-train corpus merge data/news data/web --output data/all",
    )
    merge.add_argument("prefixes", type=Path, nargs="+", metavar="PREFIX", help=PREFIX)
    merge.add_argument("--output", type=Path, required=True, metavar="PREFIX", help=WRITTEN)

    verify = add_command(
        group,
        "verify",
        _verify,
        "check checksums, index, token ids and word boundaries; reports the first fault and its file",
        "ernie-train corpus verify data/corpus",
    )
    verify.add_argument("prefixes", type=Path, nargs="+", metavar="PREFIX", help=PREFIX)

    convert = add_command(
        group,
        "convert",
        _convert,
        "convert PaddleNLP's _ids.npy and _idx.npz, .bin and .idx of Megatron or PaddleNLP, or gzipped samples of "
        "ERNIE 1.0, into a corpus",
        "ernie-train corpus convert old/wiki --vocab vocab.txt --output data/wiki",
    )
    convert.add_argument(
        "inputs",
        type=Path,
        nargs="+",
        metavar="INPUT",
        help="PREFIX of PREFIX_ids.npy and PREFIX_idx.npz, or of PREFIX.bin and .idx; or .gz files of ERNIE 1.0",
    )
    convert.add_argument(
        "--vocab",
        type=Path,
        help="vocabulary of the input; required for ERNIE 1.0; without it, a corpus from data of PaddleNLP or Megatron "
        "has no .seg file",
    )
    convert.add_argument("--output", type=Path, required=True, metavar="PREFIX", help=WRITTEN)


def _build(arguments: argparse.Namespace) -> None:
    from training.corpus.build import build_corpus

    settings, build_settings = from_flags(arguments, CorpusSettings), from_flags(arguments, BuildSettings)
    description = build_corpus(arguments.inputs, arguments.vocab, arguments.output, settings, build_settings)
    left_out = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in _left_out(description))
    _print_written(arguments.output, description, f"; left out: {left_out}" if left_out else "")


def _left_out(description: dict[str, Any]) -> list[tuple[str, int]]:
    return [(reason, count) for reason, count in description["documents_left_out"].items() if count]


def _print_written(prefix: Path, description: dict[str, Any], more: str = "") -> None:
    counts = description["counts"]
    print(
        f"{prefix}: {counts['documents']:,} documents, {counts['sentences']:,} sentences, "
        f"{counts['tokens']:,} tokens{more}"
    )


def _inspect(arguments: argparse.Namespace) -> None:
    from training.corpus.inspect import inspect_corpus

    for line in inspect_corpus(arguments.prefix, arguments.vocab, arguments.samples):
        print(line)


def _merge(arguments: argparse.Namespace) -> None:
    from training.corpus.merge import merge_corpora

    _print_written(arguments.output, merge_corpora(arguments.prefixes, arguments.output))


def _verify(arguments: argparse.Namespace) -> None:
    from training.corpus.verify import read_description, verify_corpus

    for prefix in arguments.prefixes:
        verify_corpus(prefix)
        print(
            f"{prefix} is correct"
            + ("" if read_description(prefix) else "; without a .json file no checksum was compared")
        )


def _convert(arguments: argparse.Namespace) -> None:
    from training.corpus.convert import convert_ernie, convert_paddlenlp

    if all(path.suffix == ".gz" for path in arguments.inputs):
        if arguments.vocab is None:
            raise ValueError("samples of ERNIE 1.0 need --vocab, which their token ids are checked against.")
        description = convert_ernie(arguments.inputs, arguments.output, arguments.vocab)
    elif len(arguments.inputs) == 1:
        description = convert_paddlenlp(arguments.inputs[0], arguments.output, arguments.vocab)
    else:
        raise ValueError(
            "give one prefix of PaddleNLP or Megatron, or .gz files of ERNIE 1.0; to join corpora use "
            "`ernie-train corpus merge`."
        )
    _print_written(arguments.output, description)
