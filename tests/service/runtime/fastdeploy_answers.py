"""Writes what FastDeploy answers: `fastdeploy_answers.py BUNDLE DIRECTORY BACKEND`, `N.npz` there to `N.out.npz`.

A process of its own, for the Python that has FastDeploy may not be the one that is tested.
"""

import sys
from pathlib import Path

import numpy as np

from model_build.bundle import open_bundle
from service.runtime.base import RuntimeOptions
from service.runtime.choice import load_runtime

if __name__ == "__main__":
    bundle, directory = map(Path, sys.argv[1:3])
    options = RuntimeOptions(runtime="fastdeploy", backend=sys.argv[3], cpu_threads=1)  # type: ignore[arg-type]
    runtime = load_runtime(open_bundle(bundle), options)
    for given in sorted(directory.glob("*.npz")):
        np.savez(given.with_suffix(".out.npz"), **runtime.run(dict(np.load(given))))
