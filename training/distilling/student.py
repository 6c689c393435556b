"""The student of a distillation before its first step: a published shape, or given weights."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

from model_build.bundle import read_vocabulary
from model_build.config import VARIANTS, variant
from model_build.tokenizer_config import read_tokenizer_config
from training.finetuning.starting_point import StartingPoint, starting_point
from training.runs.initial_weights import config_of

log = logging.getLogger(__name__)


def new_student(name: str, teacher: Path) -> StartingPoint:
    """A published shape with random weights, with the vocabulary and the vocabulary size of the teacher.

    Raises ValueError (ConfigError) for an unknown name, and for a teacher without config.json or vocab.txt.
    """
    theirs = config_of(str(teacher), "--teacher")
    config = dataclasses.replace(variant(name), vocab_size=theirs.vocab_size, pad_token_id=theirs.pad_token_id)
    return StartingPoint(config, None, _vocabulary(teacher), {"start": name, "from_scratch": True},
                         read_tokenizer_config(teacher))  # fmt: skip


def known_student(start: str, teacher: Path, vocab: Path | None = None, *, from_scratch: bool = False) -> StartingPoint:
    """Like `starting_point`; a published model gets the vocabulary of the teacher by default."""
    if vocab is None and start in VARIANTS and not Path(start).exists():
        vocab = _vocabulary(teacher)
    return starting_point(start, vocab, from_scratch=from_scratch)


def _vocabulary(teacher: Path) -> Path:
    path = teacher / "vocab.txt"
    if not path.is_file():
        raise ValueError(f"{path} does not exist; put the teacher's vocabulary there.")
    read_vocabulary(path)
    return path
