"""`ernie-build`: export a checkpoint to a bundle, make one smaller, inspect one, verify one.

`quantize` and `prune-vocab` need examples, tasks and metrics, which this package may not import:
`training.cli.ernie_build` hands them over.
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

from model_build.bundle import Bundle, BundleError, find_bundles, verify_bundle

DESCRIPTION = "Exports a checkpoint to a bundle, makes a bundle smaller, shows what is in one, and verifies one."
AddCommand = Callable[[Any], None]
"""Adds one command to what `ArgumentParser.add_subparsers` returned."""


def main(argv: list[str] | None = None, more: Sequence[AddCommand] = ()) -> int:
    """Entry point; returns the exit status: 0; 2 with one sentence on standard error; 130 when interrupted."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    arguments = parser(more).parse_args(argv)
    # SIGTERM ends the command as Ctrl-C does, so that what is half written is removed.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Paddle is imported only by the commands that need it, after the errors it would hide behind are caught.
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
    """The command line, with the commands that `more` adds."""
    made = argparse.ArgumentParser(prog="ernie-build", description=DESCRIPTION)
    made.add_argument("--version", action="version", version=f"%(prog)s {importlib.metadata.version('ernie-zh')}")
    commands = made.add_subparsers(required=True, metavar="COMMAND")

    export = commands.add_parser(
        "export",
        help="write a bundle from a checkpoint",
        description="Exports a checkpoint, ours or PaddleNLP's, to MODELS/NAME/VERSION/ as a Paddle and an ONNX graph, "
        "and checks both against eager mode on real sentences; a difference above 1e-4 fails the export.",
        epilog="example: ernie-build export output/reviews/model --models models --name reviews --model-version 1",
    )
    export.add_argument("checkpoint", type=Path, help="folder with model_state.pdparams, config.json and vocab.txt")
    export.add_argument("--models", type=Path, default=Path("models"), help="model repository (default: models)")
    export.add_argument("--name", help="name of the model (default: the folder's; of a folder `model`, that above it)")
    export.add_argument("--model-version", default="1", help="version directory (default: 1)")
    export.add_argument(
        "--top-candidates", type=int, default=100, help="candidates a fill-mask graph returns (default: 100)"
    )
    export.set_defaults(run=_export)

    for name, run, text in (
        ("inspect", _inspect, "print what a bundle is"),
        ("verify", _verify, "hash a bundle's files again and compare with bundle.json"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("path", type=Path, help="a bundle, a PaddleNLP export, or a model repository")
        command.set_defaults(run=run)
    for add in more:
        add(commands)
    return made


def _export(arguments: argparse.Namespace) -> None:
    from model_build.export import export_checkpoint

    bundle = export_checkpoint(
        arguments.checkpoint,
        arguments.models,
        name=arguments.name,
        version=arguments.model_version,
        top_candidates=arguments.top_candidates,
    )
    print(f"wrote {bundle.directory}")
    describe(bundle)


def describe(bundle: Bundle) -> None:
    """Prints what a bundle is."""
    manifest = bundle.manifest
    print(f"{manifest.name} version {manifest.version}: {manifest.task}, at most {manifest.max_length} tokens")
    if manifest.labels:
        print(f"  labels: {', '.join(manifest.labels)}")
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
            print(f"  {name}: {_beside(value, original[name])}")
        elif name != "original":
            print(f"  {name}: {value}")


def _beside(figures: dict[str, Any], original: dict[str, Any]) -> str:
    """The figures that are shares or losses, each followed by that of the original."""
    shares = [name for name, value in figures.items() if isinstance(value, float) and name in original]
    return ", ".join(f"{name} {figures[name]:.4f} (original {original[name]:.4f})" for name in shares)


def _inspect(arguments: argparse.Namespace) -> None:
    for bundle in find_bundles(arguments.path):
        describe(bundle)


def _verify(arguments: argparse.Namespace) -> None:
    for bundle in find_bundles(arguments.path):
        if not any(graph.sha256 for graph in bundle.manifest.graphs.values()):
            raise BundleError(f"{bundle.directory}: a PaddleNLP export carries no hashes to verify.")
        verify_bundle(bundle)
        print(f"{bundle.directory}: every file is as it was written")


if __name__ == "__main__":
    raise SystemExit(main())
