"""Compressed bundles compared with their originals, and refused where they lose too much.

Figures are those of the exported graphs, in ONNX Runtime, since these are what is served.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from model_build.bundle import Bundle, new_bundle_path
from model_build.derived import Figures
from model_build.runners import Runner, bf16_runner, onnx_runner
from training.compressing.bundle_evaluation import BundleEvaluator, Parts

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Compression:
    """What is compared with what, where the result goes, and how much worse it may be."""

    parts: Parts
    """the examples to evaluate on, and under "train" those to calibrate on"""
    target: Path
    """<models>/<name>/<version>"""
    max_drop: float = 0.5
    """of the metric in each part, in points"""

    def __post_init__(self) -> None:
        if not self.max_drop >= 0:
            raise ValueError(f"--max-drop must be 0 or more, not {self.max_drop}.")
        new_bundle_path(self.target.parent.parent, self.target.parent.name, self.target.name)


def compare(evaluator: BundleEvaluator, original: Bundle, made: Bundle, computed_in: str) -> tuple[Figures, Figures]:
    """The figures of both, the second in another precision where that is asked for."""
    return evaluator.figures(original, _runner(original, "fp32")), evaluator.figures(made, _runner(made, computed_in))


def _runner(bundle: Bundle, computed_in: str) -> Runner:
    path, _ = bundle.graph("onnx")
    names = [spec.name for spec in bundle.manifest.outputs]
    return bf16_runner(path, names) if computed_in == "bf16" else onnx_runner(path, names)


@contextlib.contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """A folder that is removed afterwards, on the same disk as `target`; model repositories pass over its name."""
    target.parent.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".compression-", dir=target.parent.parent) as folder:
        yield Path(folder)
