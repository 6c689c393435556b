"""`ernie-build quantize` and `ernie-build prune-vocab`, which `training.cli.ernie_build` adds to the other commands."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_build.settings import QuantizeSettings
from training.cli.finetune import add_separator_flag, add_set_flags, read_parts
from training.cli.flags import Commands, add_command, add_flags, from_flags

if TYPE_CHECKING:  # what needs Paddle is imported when the command runs
    from model_build.bundle import Scores, Task
    from training.compressing.comparison import Compression

COMPARED = (
    "The command compares the new bundle with the original, on --dev and --test or on the same parts of --dataset. "
    "It writes the bundle only if no metric falls by more than --max-drop. For a masked LM, give files with one text "
    "per line"
)


def add_quantize_command(commands: Commands) -> None:
    """Adds the command."""
    parser = add_command(
        commands, "quantize", _quantize,
        f"make a bundle smaller and faster with int8 weights, or smaller with 16-bit weights. {COMPARED}",
        "ernie-build quantize models/hotels/1 --dataset chnsenticorp --download",
    )  # fmt: skip
    parser.add_argument("bundle", type=Path, help="bundle with an ONNX graph, MODELS/NAME/VERSION")
    _add_result_flags(parser, "name of the bundle", None)
    parser.add_argument(
        "--calibration-rows", type=int, default=256, metavar="INT",
        help="int8: number of rows of --train on which the ranges of the activations are measured (default: 256)",
    )  # fmt: skip
    add_flags(parser, QuantizeSettings, "quantisation")
    _add_example_flags(parser, "int8: examples on which the ranges of the activations are measured")


def add_prune_vocab_command(commands: Commands) -> None:
    """Adds the command."""
    parser = add_command(
        commands, "prune-vocab", _prune_vocab,
        "make a model smaller by removing the tokens that a domain does not use and, with --max-length, position "
        f"embeddings. {COMPARED}",
        "ernie-build prune-vocab output/hotels/model --text reviews.txt --dataset chnsenticorp --download",
    )  # fmt: skip
    parser.add_argument("checkpoint", type=Path, help="folder with config.json, vocab.txt and weights")
    _add_result_flags(
        parser, "name of the checkpoint folder; for a folder named model, its parent's name", Path("models")
    )
    parser.add_argument(
        "--text", type=Path, nargs="+", required=True, metavar="FILE",
        help="text of the domain: files with one text per line, or tables; tokens that do not occur in it are removed",
    )  # fmt: skip
    parser.add_argument(
        "--min-count",
        type=int,
        default=1,
        metavar="INT",
        help="remove tokens that occur fewer times than this in --text (default: 1)",
    )
    parser.add_argument(
        "--max-tokens",
        type=int,
        default=0,
        metavar="INT",
        help="maximum number of tokens to keep; the most frequent are kept; 0 means no limit (default: 0)",
    )
    parser.add_argument(
        "--max-length",
        type=int,
        default=0,
        metavar="INT",
        help="number of position embeddings to keep; 0 keeps all (default: 0)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="folder for the pruned checkpoint, for further training (default: write only the bundle)",
    )
    _add_example_flags(
        parser,
        "training examples of the model; they are not evaluated; they only serve to find texts of dev and test that "
        "also occur in them",
    )


def _add_result_flags(parser: argparse.ArgumentParser, named: str, models: Path | None) -> None:
    result = parser.add_argument_group("new bundle")
    default = models or "the repository of the original bundle"
    result.add_argument("--models", type=Path, default=models, help=f"model repository (default: {default})")
    result.add_argument("--name", help=f"name of the model (default: {named})")
    result.add_argument(
        "--model-version",
        help="version of the bundle, which is also the name of its folder (default: the next number)",
    )
    result.add_argument(
        "--max-drop", type=float, default=0.5, metavar="FLOAT",
        help="how far a metric may fall on dev or on test, in percentage points (default: 0.5)",
    )  # fmt: skip


def _add_example_flags(parser: argparse.ArgumentParser, train: str) -> None:
    data = parser.add_argument_group(
        "examples",
        "either --dataset, or files in the formats of `ernie-train finetune`; docs/finetuning-data.md describes both",
    )
    add_set_flags(data)
    add_separator_flag(data)
    data.add_argument("--train", type=Path, metavar="FILE", help=train)
    data.add_argument("--dev", type=Path, metavar="FILE", help="examples to evaluate on")
    data.add_argument("--test", type=Path, metavar="FILE", help="other examples to evaluate on")


def _quantize(arguments: argparse.Namespace) -> None:
    from model_build.bundle import open_bundle
    from model_build.cli import describe
    from model_build.quantization import check_plain
    from training.compressing.quantize import quantize_bundle

    if arguments.calibration_rows < 1:
        raise ValueError(f"--calibration-rows must be at least 1, not {arguments.calibration_rows}.")
    bundle = open_bundle(arguments.bundle)
    check_plain(bundle)
    arguments.models = arguments.models or arguments.bundle.resolve().parent.parent
    manifest = bundle.manifest
    job = _job(arguments, manifest.task, manifest.scores, arguments.name or manifest.name)
    made = quantize_bundle(job, bundle, from_flags(arguments, QuantizeSettings), arguments.calibration_rows)
    print(f"wrote {made.directory}")
    describe(made)


def _prune_vocab(arguments: argparse.Namespace) -> None:
    from model_build.checkpoint import read_checkpoint
    from model_build.cli import describe
    from model_build.export import name_of
    from training.compressing.prune_vocabulary import prune_bundle
    from training.datasets.unlabelled import read_unlabelled

    if min(arguments.min_count, arguments.max_tokens, arguments.max_length) < 0:
        raise ValueError("--min-count, --max-tokens and --max-length must be 0 or more.")
    checkpoint = read_checkpoint(arguments.checkpoint)
    job = _job(arguments, checkpoint.task, checkpoint.scores, arguments.name or name_of(arguments.checkpoint.resolve()))
    texts = [text for path in arguments.text for text in read_unlabelled(path)]
    made = prune_bundle(
        job, arguments.checkpoint, texts, min_count=arguments.min_count, max_tokens=arguments.max_tokens,
        max_length=arguments.max_length, output=arguments.output,
    )  # fmt: skip
    print(f"wrote {made.directory}")
    describe(made)


def _job(arguments: argparse.Namespace, task: Task, scores: Scores, name: str) -> Compression:
    from model_build.bundle import new_bundle_path
    from model_build.export import next_version
    from training.compressing.comparison import Compression

    version = arguments.model_version or next_version(arguments.models / name)
    target = new_bundle_path(arguments.models, name, version)
    return Compression(_parts(arguments, task, scores), target, arguments.max_drop)


def _parts(arguments: argparse.Namespace, task: Task, scores: Scores) -> Mapping[str, Sequence[Any]]:
    """The examples by part for a bundle's task; unlabelled texts for a masked LM."""
    if task != "fill-mask":
        arguments.multi_label = scores == "sigmoid" or None
        return read_parts(arguments, task)[1]
    from training.datasets.unlabelled import read_unlabelled

    if arguments.dataset:
        raise ValueError(
            "a masked LM is evaluated on plain text; give files by --train, --dev and --test instead of --dataset."
        )
    files = {part: path for part in ("train", "dev", "test") if (path := getattr(arguments, part))}
    return {part: read_unlabelled(path) for part, path in files.items()}
