"""A bundle without the tokens that a domain does not use, compared with its original."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model_build.bundle import Bundle, read_vocabulary
from model_build.checkpoint import load_model, read_checkpoint, save_checkpoint
from model_build.derived import check_drop, publish, side_by_side
from model_build.export import export_checkpoint
from model_build.pruning import kept_tokens, prune
from model_build.tokenizer_config import TokenizerSettings, read_tokenizer_config
from training.compressing.bundle_evaluation import evaluator_of
from training.compressing.comparison import Compression, compare, temporary_folder
from training.datasets.examples import Example
from training.runs.progress import Progress
from training.tasks.tokenizer import Tokenizer

log = logging.getLogger(__name__)


def prune_bundle(
    job: Compression,
    checkpoint: Path,
    texts: Sequence[Example],
    *,
    min_count: int = 1,
    max_tokens: int = 0,
    max_length: int = 0,
    output: Path | None = None,
) -> Bundle:
    """Removes tokens that do not occur in `texts`, and publishes the bundle with its metrics and those of the original.

    `max_tokens` and `max_length` (0: no limit) bound tokens and positions. The pruned checkpoint is written to `output`
    if given, for further training. Raises WorseThanOriginal if the bundle loses too much, PruningError, BundleError,
    CheckpointError, and ValueError for examples that do not fit and for an existing output.
    """
    if output and output.exists():
        raise ValueError(f"{output} exists; remove it, or choose another --output.")
    counts = token_counts(checkpoint / "vocab.txt", texts, read_tokenizer_config(checkpoint))
    keep = kept_tokens(read_vocabulary(checkpoint / "vocab.txt"), counts, min_count, max_tokens)
    with temporary_folder(job.target) as folder:
        original = export_checkpoint(checkpoint, folder, name="original")
        evaluator = evaluator_of(original, job.parts)
        (folder / "checkpoint").mkdir()
        prune(checkpoint, folder / "checkpoint", keep, max_length)
        made = export_checkpoint(folder / "checkpoint", folder, name="made")
        before, after = compare(evaluator, original, made, "fp32")
        check_drop(before, after, evaluator.metrics, job.max_drop)
        evaluation = side_by_side(before, after)
        if output:  # first: if the output cannot be written, no bundle may be published
            _keep_checkpoint(folder / "checkpoint", output, evaluation)
        return publish(made, job.target, evaluation, {"judged_in": "ONNX Runtime"})


def _keep_checkpoint(folder: Path, output: Path, evaluation: dict[str, Any]) -> None:
    """Writes a checkpoint to `output`, with metrics."""
    about = read_checkpoint(folder)
    about.evaluation = evaluation
    lines = (folder / "sentences.txt").read_text(encoding="utf-8").splitlines()
    save_checkpoint(output, about, load_model(folder), folder / "vocab.txt", lines)


def token_counts(vocab: Path, texts: Sequence[Example], settings: TokenizerSettings | None = None) -> np.ndarray:
    """Counts of each token of a vocabulary in texts, int64 [V]. Raises ValueError if there are no texts."""
    if not texts:
        raise ValueError("there is no text whose tokens could be kept; give text with --text.")
    tokenizer = Tokenizer(vocab, settings)
    counts = np.zeros(len(tokenizer.tokens), dtype=np.int64)
    with Progress("prune-vocab", len(texts), 0, unit="text") as progress:
        for each in texts:
            for text in (each.text, each.text_pair or ""):
                np.add.at(counts, tokenizer.pieces(text), 1)
            progress.add(1)
    return counts
