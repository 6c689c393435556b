"""A quantised bundle, compared with its original."""

from __future__ import annotations

import logging

from model_build.bundle import Bundle
from model_build.derived import check_drop, publish, side_by_side
from model_build.quantization import check_plain, quantize
from model_build.runners import has_bf16
from model_build.settings import QuantizeSettings
from training.compressing.bundle_evaluation import evaluator_of
from training.compressing.comparison import Compression, compare, temporary_folder

log = logging.getLogger(__name__)


def quantize_bundle(
    job: Compression, bundle: Bundle, settings: QuantizeSettings, calibration_rows: int = 256
) -> Bundle:
    """Quantises a bundle and publishes it with its metrics and those of the original.

    `calibration_rows` is the number of training rows for the ranges of the activations (int8). Raises
    WorseThanOriginal if the bundle loses too much, BundleError, QuantizationError, and ValueError for examples that do
    not fit.
    """
    check_plain(bundle)
    evaluator = evaluator_of(bundle, job.parts)
    batches = evaluator.calibration(bundle, calibration_rows) if settings.precision == "int8" else []
    if settings.precision == "int8" and not batches:
        raise ValueError("there is no text to calibrate on; give examples with --train.")
    with temporary_folder(job.target) as folder:
        made = quantize(bundle, folder / "made" / "1", settings, batches)
        computed_in = "bf16" if settings.precision == "bf16" and has_bf16() else "fp32"
        judged_in = "OpenVINO, in bf16" if computed_in == "bf16" else "ONNX Runtime"
        log.info("evaluating in %s", judged_in)
        before, after = compare(evaluator, bundle, made, computed_in)
        check_drop(before, after, evaluator.metrics, job.max_drop)
        return publish(made, job.target, side_by_side(before, after), {"judged_in": judged_in})
