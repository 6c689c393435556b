"""`ernie-build quantize` and `prune-vocab`: commands of ernie-build that need what training knows, labelled text.

`model_build.cli` finds them by the entry point group `ernie_build.commands`, since model_build may not import training.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.finetune_cli import add_example_flags, read_parts
from training.flags import Commands, add_command, add_flags, from_flags

if TYPE_CHECKING:  # what needs Paddle is imported when the command runs
    from model_build.bundle import Task
    from training.compression import Compression

JUDGED = (
    "the new bundle is judged beside the original on --dev and --test, or the parts of --dataset, and refused where it "
    "loses more than --max-drop; for a masked LM these are files with a text on every line"
)


def add_quantize_command(commands: Commands) -> None:
    """Adds the command."""
    from model_build.quantization import QuantizeSettings

    parser = add_command(
        commands, "quantize", _quantize,
        f"make a bundle smaller and faster in int8, or smaller in 16 bits; {JUDGED}",
        "ernie-build quantize models/hotels/1 --dataset chnsenticorp --download",
    )  # fmt: skip
    parser.add_argument("bundle", type=Path, help="a bundle with an ONNX graph, MODELS/NAME/VERSION")
    _add_result_flags(parser, "the bundle's")
    parser.add_argument(
        "--calibration-rows", type=int, default=256, metavar="INT",
        help="rows of --train that show how large activations get, for int8 (default: 256)",
    )  # fmt: skip
    add_flags(parser, QuantizeSettings, "what becomes of the graph")
    add_example_flags(parser)


def add_prune_vocab_command(commands: Commands) -> None:
    """Adds the command."""
    parser = add_command(
        commands, "prune-vocab", _prune_vocab,
        f"leave out the tokens that a domain does not use, and positions; {JUDGED}",
        "ernie-build prune-vocab output/hotels/model --text reviews.txt --dataset chnsenticorp --download",
    )  # fmt: skip
    parser.add_argument("checkpoint", type=Path, help="folder with model_state.pdparams, config.json and vocab.txt")
    _add_result_flags(parser, "the folder's; of a folder `model`, that above it")
    parser.add_argument(
        "--text", type=Path, nargs="+", required=True, metavar="FILE",
        help="text of the domain, a text on every line, or tables of which the text counts",
    )  # fmt: skip
    parser.add_argument(
        "--min-count", type=int, default=1, metavar="INT", help="tokens that stand there less often go (default: 1)"
    )
    parser.add_argument(
        "--max-tokens", type=int, default=0, metavar="INT", help="keep the most frequent only; 0 keeps all (default: 0)"
    )
    parser.add_argument(
        "--max-length", type=int, default=0, metavar="INT", help="positions that stay; 0 keeps all (default: 0)"
    )
    parser.add_argument("--output", type=Path, help="folder for the pruned checkpoint (default: none, the bundle only)")
    add_example_flags(parser)


def _add_result_flags(parser: argparse.ArgumentParser, named: str) -> None:
    result = parser.add_argument_group("the new bundle")
    result.add_argument("--models", type=Path, default=Path("models"), help="model repository (default: models)")
    result.add_argument("--name", help=f"name of the model (default: {named})")
    result.add_argument("--model-version", help="version directory (default: the next one)")
    result.add_argument(
        "--max-drop", type=float, default=0.5, metavar="FLOAT",
        help="points of the metric that may be lost in each part (default: 0.5)",
    )  # fmt: skip


def _quantize(arguments: argparse.Namespace) -> None:
    from model_build.bundle import open_bundle
    from model_build.cli import describe
    from model_build.quantization import QuantizeSettings
    from training.compression import quantized

    if arguments.calibration_rows < 1:
        raise ValueError(f"--calibration-rows must be at least 1, not {arguments.calibration_rows}.")
    bundle = open_bundle(arguments.bundle)
    job = _job(arguments, bundle.manifest.task, arguments.name or bundle.manifest.name)
    made = quantized(job, bundle, from_flags(arguments, QuantizeSettings), arguments.calibration_rows)
    print(f"wrote {made.directory}")
    describe(made)


def _prune_vocab(arguments: argparse.Namespace) -> None:
    from model_build.checkpoint import read_checkpoint
    from model_build.cli import describe
    from model_build.export import name_of
    from training.compression import pruned
    from training.datasets.unlabelled import read_unlabelled

    if min(arguments.min_count, arguments.max_tokens, arguments.max_length) < 0:
        raise ValueError("--min-count, --max-tokens and --max-length must be 0 or more.")
    checkpoint = read_checkpoint(arguments.checkpoint)
    job = _job(arguments, checkpoint.task, arguments.name or name_of(arguments.checkpoint.resolve()))
    texts = [text for path in arguments.text for text in read_unlabelled(path)]
    made = pruned(
        job, arguments.checkpoint, texts, min_count=arguments.min_count, max_tokens=arguments.max_tokens,
        max_length=arguments.max_length, output=arguments.output,
    )  # fmt: skip
    print(f"wrote {made.directory}")
    describe(made)


def _job(arguments: argparse.Namespace, task: Task, name: str) -> Compression:
    from model_build.export import next_version
    from training.compression import Compression

    version = arguments.model_version or next_version(arguments.models / name)
    return Compression(_parts(arguments, task), arguments.models / name / version, arguments.max_drop)


def _parts(arguments: argparse.Namespace, task: Task) -> Mapping[str, Sequence[Any]]:
    """The examples of a bundle's task; of a masked LM texts."""
    if task != "fill-mask":
        return read_parts(arguments, task)[1]
    from training.datasets.unlabelled import read_unlabelled

    if arguments.dataset:
        raise ValueError("a masked LM is judged by text alone; give files with --train, --dev and --test.")
    files = {part: path for part in ("train", "dev", "test") if (path := getattr(arguments, part))}
    return {part: read_unlabelled(path) for part, path in files.items()}
