"""Compressed bundles compared with their originals, and refused where they lose too much.

The metrics are those of the exported graphs in ONNX Runtime, because these are served.
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
    """The examples to compare on, the target of the new bundle, and the largest allowed loss."""

    parts: Parts
    """the examples to evaluate on, and under "train" those to calibrate on"""
    target: Path
    """<models>/<name>/<version>"""
    max_drop: float = 0.5
    """largest allowed loss of the metric on each part, in percentage points"""

    def __post_init__(self) -> None:
        if not self.max_drop >= 0:
            raise ValueError(f"--max-drop must be 0 or more, not {self.max_drop}.")
        new_bundle_path(self.target.parent.parent, self.target.parent.name, self.target.name)


def compare(evaluator: BundleEvaluator, original: Bundle, made: Bundle, computed_in: str) -> tuple[Figures, Figures]:
    """The metrics of both bundles; `computed_in` ("fp32" or "bf16") is the precision of the second."""
    return evaluator.figures(original, _runner(original, "fp32")), evaluator.figures(made, _runner(made, computed_in))


def _runner(bundle: Bundle, computed_in: str) -> Runner:
    path, _ = bundle.graph("onnx")
    names = [spec.name for spec in bundle.manifest.outputs]
    return bf16_runner(path, names) if computed_in == "bf16" else onnx_runner(path, names)


@contextlib.contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """A temporary folder on the same disk as `target`; its name begins with a dot, so the service ignores it."""
    target.parent.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".compression-", dir=target.parent.parent) as folder:
        yield Path(folder)
