"""One engine process: loads a bundle, warms up, serves. The supervisor starts it with `main`.

The exit status is 3, with one sentence on standard error, if the bundle cannot be run.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import msgspec

from model_build.bundle import BundleError, open_bundle
from model_build.bundle_check import check_bundle
from service.engine.batching import Batcher
from service.engine.loop import EngineLoop
from service.engine.quarantine import Quarantine
from service.engine.shapes import AnyShape, FewShapes
from service.engine.tensors import OutputError, Tensors
from service.messages.launch import START_FAILED, BatchingOptions
from service.runtime.base import RuntimeOptions, RuntimeUnavailable
from service.runtime.choice import load_runtime

NICENESS = 5


def main() -> int:
    """Serves until standard input has a byte or is closed."""
    parser = argparse.ArgumentParser(prog="python -m service.engine", description=__doc__)
    parser.add_argument("--socket", required=True, help="address of the Unix socket to listen on")
    parser.add_argument("--bundle", type=Path, required=True, help="bundle directory")
    parser.add_argument("--runtime", default="{}", help="RuntimeOptions as JSON")
    parser.add_argument("--batching", default="{}", help="BatchingOptions as JSON")
    parser.add_argument("--quarantine", type=int, help="file descriptor that all engines of a model share")
    parser.add_argument("--killed", action="store_true", help="the engine before was killed from outside")
    arguments = parser.parse_args()
    # A forward pass on the CPU uses every core; the API process must still answer health checks.
    os.nice(NICENESS)
    try:
        bundle = open_bundle(arguments.bundle)
        check_bundle(bundle)
        options = msgspec.json.decode(arguments.runtime, type=RuntimeOptions)
        batching = msgspec.json.decode(arguments.batching, type=BatchingOptions)
        runtime = load_runtime(bundle, options)
        shapes = FewShapes() if runtime.compiles_shapes else AnyShape()
        quarantine = Quarantine(arguments.quarantine, runtime.streams, batching.max_batch_items, arguments.killed)
        engine = EngineLoop(runtime, Tensors(bundle, shapes), Batcher(batching, shapes), quarantine=quarantine)
        ready = engine.warm_up()
        if ready.scores_in_graph:
            print(
                f"the graph of {bundle.manifest.name} ends in a {ready.scores}: its outputs are the scores",
                file=sys.stderr,
            )
    except (BundleError, RuntimeUnavailable, OutputError, msgspec.DecodeError) as error:
        print(error, file=sys.stderr)
        return START_FAILED
    try:
        engine.serve(arguments.socket, sys.stdin.fileno())
    except (OutputError, RuntimeError) as error:
        print(f"the graph no longer runs: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
