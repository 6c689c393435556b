"""Compression with a judge: quantised and pruned bundles beside their originals, and refused where they are worse.

Figures are those of the exported graphs, in ONNX Runtime, since these are what is served.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model_build.bundle import Bundle, BundleError, read_vocabulary
from model_build.checkpoint import load_model, read_checkpoint, save_checkpoint
from model_build.derived import Figures, admit
from model_build.export import export_checkpoint
from model_build.pruning import kept_tokens, prune
from model_build.quantization import QuantizeSettings, quantize
from model_build.runners import Runner, bf16_runner, has_bf16, onnx_runner
from training.datasets.examples import Example
from training.judges import Judge, Parts, judge_of
from training.progress import Progress
from training.tokens import Encoder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Compression:
    """What is compared with what, where the result goes, and how much worse it may be."""

    parts: Parts
    """what to judge by, and under "train" what to calibrate on"""
    target: Path
    """<models>/<name>/<version>"""
    max_drop: float = 0.5
    """of the metric in each part, in points"""

    def __post_init__(self) -> None:
        if not self.max_drop >= 0:
            raise ValueError(f"--max-drop must be 0 or more, not {self.max_drop}.")
        if self.target.exists():
            raise BundleError(f"{self.target} exists; bundles are immutable, so give another --model-version.")


def quantized(job: Compression, bundle: Bundle, settings: QuantizeSettings, calibration_rows: int = 256) -> Bundle:
    """A quantised bundle with its figures beside the original's.

    Raises WorseThanOriginal where it loses too much, BundleError, QuantizationError, and ValueError for examples that
    do not fit.
    """
    judge = judge_of(bundle, job.parts)
    batches = judge.calibration(bundle, calibration_rows) if settings.precision == "int8" else []
    if settings.precision == "int8" and not batches:
        raise ValueError("there is no text to calibrate on; give some with --train.")
    with _aside(job.target) as folder:
        made = quantize(bundle, folder / "made" / "1", settings, batches)
        computed_in = "bf16" if settings.precision == "bf16" and has_bf16() else "fp32"
        log.info("judged in %s", "OpenVINO, which computes in bf16" if computed_in == "bf16" else "ONNX Runtime")
        return admit(made, job.target, _compared(judge, bundle, made, computed_in), judge.metrics, job.max_drop)


def pruned(
    job: Compression,
    checkpoint: Path,
    texts: Sequence[Example],
    *,
    min_count: int = 1,
    max_tokens: int = 0,
    max_length: int = 0,
    output: Path | None = None,
) -> Bundle:
    """A bundle of a checkpoint without the tokens that `texts` do not have, with its figures beside the original's.

    The pruned checkpoint goes to `output` where it is given, to be finetuned or distilled further. Raises
    WorseThanOriginal where the bundle loses too much, PruningError, BundleError, CheckpointError, and ValueError for
    examples that do not fit, or an output that is there.
    """
    if output and output.exists():
        raise ValueError(f"{output} exists; remove it, or choose another --output.")
    counts = token_counts(checkpoint / "vocab.txt", texts)
    keep = kept_tokens(read_vocabulary(checkpoint / "vocab.txt"), counts, min_count, max_tokens)
    with _aside(job.target) as folder:
        original = export_checkpoint(checkpoint, folder, name="original")
        judge = judge_of(original, job.parts)
        (folder / "checkpoint").mkdir()
        prune(checkpoint, folder / "checkpoint", keep, max_length)
        made = export_checkpoint(folder / "checkpoint", folder, name="made")
        figures = _compared(judge, original, made, "fp32")
        admitted = admit(made, job.target, figures, judge.metrics, job.max_drop)
        if output:
            _keep_checkpoint(folder / "checkpoint", output, admitted.manifest.evaluation)
    return admitted


def _keep_checkpoint(folder: Path, output: Path, evaluation: dict[str, Any]) -> None:
    """Moves a checkpoint to `output`, with figures."""
    about = read_checkpoint(folder)
    about.evaluation = evaluation
    lines = (folder / "sentences.txt").read_text(encoding="utf-8").splitlines()
    save_checkpoint(output, about, load_model(folder), folder / "vocab.txt", lines)


def token_counts(vocab: Path, texts: Sequence[Example]) -> np.ndarray:
    """How often each token of a vocabulary stands in texts, int64 [V]. Raises ValueError where there are no texts."""
    if not texts:
        raise ValueError("there is no text to keep the tokens of; give some with --text.")
    encoder = Encoder(vocab)
    counts = np.zeros(len(encoder.tokens), dtype=np.int64)
    with Progress("prune-vocab", len(texts), 0, unit="text") as progress:
        for each in texts:
            for text in (each.text, each.text_pair or ""):
                np.add.at(counts, encoder.pieces(text), 1)
            progress.add(1)
    return counts


def _compared(judge: Judge, original: Bundle, made: Bundle, computed_in: str) -> tuple[Figures, Figures]:
    """The figures of both, the second in another precision where that is asked for."""
    return judge.figures(original, _runner(original, "fp32")), judge.figures(made, _runner(made, computed_in))


def _runner(bundle: Bundle, computed_in: str) -> Runner:
    path, _ = bundle.graph("onnx")
    names = [spec.name for spec in bundle.manifest.outputs]
    return bf16_runner(path, names) if computed_in == "bf16" else onnx_runner(path, names)


@contextlib.contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """A folder that is removed afterwards, on the same disk as `target`; model repositories pass over its name."""
    target.parent.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".compression-", dir=target.parent.parent) as folder:
        yield Path(folder)
