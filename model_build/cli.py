"""`ernie-build`: exports a checkpoint as a model bundle, makes bundles smaller, and checks them.

`quantize` and `prune-vocab` need data sets, tasks and metrics, which this package may not import:
`training.cli.ernie_build` passes them in.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from model_build.bundle import Bundle, BundleError, find_bundles
from model_build.bundle_check import check_bundle
from model_build.labels import SCORES

AddCommand = Callable[[Any], None]
"""Adds one command to what `ArgumentParser.add_subparsers` returned."""

FOLDER = "folder with config.json, vocab.txt and weights: model_state.pdparams, model.safetensors or pytorch_model.bin"


def main(argv: list[str] | None = None, more: Sequence[AddCommand] = ()) -> int:
    """Entry point; `more` are the commands to add.

    Returns the exit status: 0, 2 after an error (one sentence on standard error), 130 if interrupted.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    arguments = parser(more).parse_args(argv)
    # SIGTERM must end the command as Ctrl-C does, so that unfinished files are removed.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Each command imports Paddle itself if it needs it: the import takes seconds and may fail.
    try:
        arguments.run(arguments)
    except (ValueError, RuntimeError, OSError) as error:
        print(f"ernie-build: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ernie-build: interrupted; nothing was written.", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def parser(more: Sequence[AddCommand] = ()) -> argparse.ArgumentParser:
    """The parser of `ernie-build`, with the commands that `more` adds."""
    main_parser = argparse.ArgumentParser(
        prog="ernie-build",
        description="Makes and checks model bundles. A bundle is a folder with a graph, a vocabulary and bundle.json. "
        "A model repository MODELS holds bundles as MODELS/NAME/VERSION; `ernie-serve --models MODELS` serves the "
        "newest version of every name. No command changes an existing bundle; the result is always a new version.",
        epilog="example: ernie-build export output/reviews/model --models models",
    )
    version = f"%(prog)s {importlib.metadata.version('ernie-zh')}"
    main_parser.add_argument("--version", action="version", version=version)
    commands = main_parser.add_subparsers(required=True, metavar="COMMAND")

    export = commands.add_parser(
        "export",
        help="write a bundle from a checkpoint",
        description="Exports a checkpoint to the bundle MODELS/NAME/VERSION, as a Paddle graph and an ONNX graph. The "
        "checkpoint may come from `ernie-train`, or from save_pretrained of PaddleNLP or Hugging Face, with a model of "
        "ERNIE or BERT. The command runs both graphs on "
        "real sentences and compares their outputs with those of the Paddle model in eager mode. If an output differs "
        "by more than 1e-4, the command fails and writes no bundle.",
        epilog="example: ernie-build export output/reviews/model --models models --name reviews --model-version 1",
    )
    export.add_argument("checkpoint", type=Path, help=FOLDER)
    export.add_argument(
        "--models", type=Path, default=Path("models"), help="model repository to write into (default: models)"
    )
    export.add_argument(
        "--name",
        help="name of the model (default: the name of the checkpoint folder, or of its parent folder if the checkpoint "
        "folder is called `model`)",
    )
    export.add_argument(
        "--model-version", default="1", help="version of the bundle; the command never overwrites one (default: 1)"
    )
    export.add_argument(
        "--top-candidates",
        type=int,
        default=100,
        help="number of candidate tokens that a fill-mask graph returns for each mask; no effect for other tasks "
        "(default: 100)",
    )
    export.add_argument(
        "--scores",
        choices=SCORES,
        help="scores of a classifier: softmax (one label a text), sigmoid (any number of labels a text) or "
        "raw (the outputs of the model, for example of a regression) (default: as problem_type in config.json or "
        "scores.txt says; without them softmax, or raw if the model has one output)",
    )
    export.set_defaults(run=_export)

    convert = commands.add_parser(
        "convert",
        help="write a checkpoint for PaddleNLP or Hugging Face",
        description="Writes the model of a checkpoint folder to the new folder OUTPUT, in the format of PaddleNLP, "
        "which ernie-train writes too, or of Hugging Face. The source may have any format that `export` reads. BERT "
        "becomes ERNIE without the task-type table, which is the same network.",
        epilog="example: ernie-build convert output/reviews/model --to huggingface --output output/reviews-hf",
    )
    convert.add_argument("checkpoint", type=Path, help=FOLDER)
    convert.add_argument("--to", required=True, choices=("paddlenlp", "huggingface"), help="the format to write")
    convert.add_argument("--output", required=True, type=Path, help="folder to write; it must not exist")
    convert.set_defaults(run=_convert)

    for name, run, summary, description in (
        (
            "inspect",
            _inspect,
            "print the contents of a bundle",
            "Prints name, version, task, labels, graphs and evaluation figures of a bundle. For a model repository, "
            "prints those of the newest version of every name.",
        ),
        (
            "verify",
            _verify,
            "check the files of a bundle against their hashes",
            "Computes the SHA-256 of the vocabulary and of every graph file of a bundle and compares it with "
            "bundle.json. Compares the embedding tables of the graphs with the vocabulary. If a file differs, the "
            "command fails and names it. For a model repository, checks the newest version of every name.",
        ),
    ):
        command = commands.add_parser(
            name, help=summary, description=description, epilog=f"example: ernie-build {name} models"
        )
        command.add_argument("path", type=Path, help="a bundle, a folder exported by PaddleNLP, or a model repository")
        command.set_defaults(run=run)
    for add in more:
        add(commands)
    return main_parser


def _export(arguments: argparse.Namespace) -> None:
    from model_build.export import export_checkpoint

    bundle = export_checkpoint(
        arguments.checkpoint,
        arguments.models,
        name=arguments.name,
        version=arguments.model_version,
        top_candidates=arguments.top_candidates,
        scores=arguments.scores,
    )
    print(f"wrote {bundle.directory}")
    describe(bundle)


def _convert(arguments: argparse.Namespace) -> None:
    from model_build.conversion import convert

    if arguments.output.exists():
        raise ValueError(f"{arguments.output} exists; remove it, or choose another --output.")
    convert(arguments.checkpoint, arguments.output, arguments.to)
    print(f"wrote {arguments.output}")


def describe(bundle: Bundle) -> None:
    """Prints name, version, task, labels, graphs and evaluation figures of a bundle on standard output."""
    manifest = bundle.manifest
    print(f"{manifest.name} version {manifest.version}: {manifest.task}, at most {manifest.max_length} tokens")
    if manifest.labels:
        print(f"  labels: {', '.join(manifest.labels)}")
    if manifest.task == "classify":
        print(f"  scores: {manifest.scores}")
    if "quantization" in manifest.provenance:
        source = manifest.provenance["made_from"]
        print(f"  {manifest.provenance['quantization']['precision']}, made from {source['name']} {source['version']}")
    for name, graph in manifest.graphs.items():
        size = sum((bundle.directory / file).stat().st_size for file in (graph.path, graph.params_path) if file)
        error = graph.parity_max_abs_error
        differs = "" if error is None else f", differs from eager mode by at most {error:.1e}"
        print(f"  {name}: {size / 1e6:.1f} MB{differs}")
    original = manifest.evaluation.get("original", {})
    for name, value in manifest.evaluation.items():
        if name in original:
            print(f"  {name}: {_compared(value, original[name])}")
        elif name != "original":
            print(f"  {name}: {value}")


def _compared(figures: dict[str, Any], original: dict[str, Any]) -> str:
    """The figures that are float, such as accuracies, each followed by the original bundle's; counts are left out."""
    shares = [name for name, value in figures.items() if isinstance(value, float) and name in original]
    return ", ".join(f"{name} {figures[name]:.4f} (original {original[name]:.4f})" for name in shares)


def _inspect(arguments: argparse.Namespace) -> None:
    for bundle in find_bundles(arguments.path):
        describe(bundle)


def _verify(arguments: argparse.Namespace) -> None:
    for bundle in find_bundles(arguments.path):
        if not any(graph.sha256 for graph in bundle.manifest.graphs.values()):
            raise BundleError(
                f"{bundle.directory} has no hashes to verify, because PaddleNLP exported it; give a bundle."
            )
        check_bundle(bundle)
        print(f"{bundle.directory}: every file is as it was written")


if __name__ == "__main__":
    raise SystemExit(main())
