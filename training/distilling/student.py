"""The student of a distillation before its first step: a published shape, or given weights."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

from model_build.bundle import read_vocabulary
from model_build.config import VARIANTS, variant
from training.finetuning.starting_point import StartingPoint, starting_point
from training.runs.initial_weights import config_of

log = logging.getLogger(__name__)


def new_student(name: str, teacher: Path) -> StartingPoint:
    """A published shape at random, with the vocabulary of the teacher's folder and as many rows for it.

    Raises ValueError (ConfigError) for an unknown name and a teacher without config.json.
    """
    theirs = config_of(str(teacher), "--teacher")
    config = dataclasses.replace(variant(name), vocab_size=theirs.vocab_size, pad_token_id=theirs.pad_token_id)
    return StartingPoint(config, None, _vocabulary(teacher), {"start": name, "from_scratch": True})


def known_student(start: str, teacher: Path, vocab: Path | None = None, *, from_scratch: bool = False) -> StartingPoint:
    """As `starting_point`; a published model, whose vocabulary is not on the disk, is taken to have the teacher's."""
    if vocab is None and start in VARIANTS and not Path(start).exists():
        vocab = _vocabulary(teacher)
    return starting_point(start, vocab, from_scratch=from_scratch)


def _vocabulary(teacher: Path) -> Path:
    path = teacher / "vocab.txt"
    if not path.is_file():
        raise ValueError(f"{path} does not exist; put the teacher's vocabulary there.")
    read_vocabulary(path)
    return path
