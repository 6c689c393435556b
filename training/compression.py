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

from model_build.bundle import Bundle, new_bundle_path, read_vocabulary
from model_build.checkpoint import load_model, read_checkpoint, save_checkpoint
from model_build.derived import Figures, check_drop, publish, side_by_side
from model_build.export import export_checkpoint
from model_build.pruning import kept_tokens, prune
from model_build.quantization import check_plain, quantize
from model_build.runners import Runner, bf16_runner, has_bf16, onnx_runner
from model_build.settings import QuantizeSettings
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
        new_bundle_path(self.target.parent.parent, self.target.parent.name, self.target.name)


def quantized(job: Compression, bundle: Bundle, settings: QuantizeSettings, calibration_rows: int = 256) -> Bundle:
    """A quantised bundle with its figures beside the original's.

    Raises WorseThanOriginal where it loses too much, BundleError, QuantizationError, and ValueError for examples that
    do not fit.
    """
    check_plain(bundle)
    judge = judge_of(bundle, job.parts)
    batches = judge.calibration(bundle, calibration_rows) if settings.precision == "int8" else []
    if settings.precision == "int8" and not batches:
        raise ValueError("there is no text to calibrate on; give some with --train.")
    with _aside(job.target) as folder:
        made = quantize(bundle, folder / "made" / "1", settings, batches)
        computed_in = "bf16" if settings.precision == "bf16" and has_bf16() else "fp32"
        judged_in = "OpenVINO, in bf16" if computed_in == "bf16" else "ONNX Runtime"
        log.info("judged in %s", judged_in)
        before, after = _compared(judge, bundle, made, computed_in)
        check_drop(before, after, judge.metrics, job.max_drop)
        return publish(made, job.target, side_by_side(before, after), {"judged_in": judged_in})


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
        before, after = _compared(judge, original, made, "fp32")
        check_drop(before, after, judge.metrics, job.max_drop)
        evaluation = side_by_side(before, after)
        if output:  # first, for an output that cannot be written must leave no bundle
            _keep_checkpoint(folder / "checkpoint", output, evaluation)
        return publish(made, job.target, evaluation, {"judged_in": "ONNX Runtime"})


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
