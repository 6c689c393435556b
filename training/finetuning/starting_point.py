"""The pretrained model that finetuning starts from: shape, weights and vocabulary."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model_build.bundle import read_vocabulary
from model_build.checkpoint import check_vocabulary
from model_build.config import VARIANTS, ErnieConfig
from model_build.tokenizer_config import TokenizerSettings, read_tokenizer_config
from model_build.weights import read_pretrained, read_weights
from training.runs.initial_weights import config_of, digest_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StartingPoint:
    """A pretrained model: shape, weights and vocabulary."""

    config: ErnieConfig
    weights: Mapping[str, Any] | None
    """by name; None: random weights"""
    vocab: Path
    described: Mapping[str, Any]
    """JSON: origin of the weights, for the provenance of the finetuned model"""
    tokenizer: TokenizerSettings = field(default_factory=TokenizerSettings)
    """how the model reads text"""


def starting_point(start: str, vocab: Path | None = None, *, from_scratch: bool = False) -> StartingPoint:
    """A published model by its PaddleNLP name, or a folder with config.json, weights and vocab.txt.

    The folder may be one of PaddleNLP or Hugging Face, with a model of ERNIE or BERT.

    `vocab` replaces the vocabulary of the folder; `from_scratch` uses only the shape, with random weights. Raises
    ValueError (WeightsError), which says what is missing.
    """
    config = config_of(start, "--pretrained")
    published = start in VARIANTS and not Path(start).exists()
    found = vocab or (None if published else Path(start) / "vocab.txt")
    if found is None:
        raise ValueError(f"the published model {start} comes without vocabulary; give its vocab.txt with --vocab.")
    if not found.is_file():
        raise ValueError(f"{found} does not exist; put the model's vocabulary there, or give it with --vocab.")
    if "[PAD]" not in read_vocabulary(found):
        raise ValueError(
            f"{found} lacks [PAD], but {start} pads with token {config.pad_token_id}; give the model's vocabulary."
        )
    check_vocabulary(found, config, start)
    tokenizer = TokenizerSettings(rules="paddlenlp") if published else read_tokenizer_config(Path(start))
    described: dict[str, Any] = {"start": start if published else Path(start).absolute().name}
    if from_scratch:
        return StartingPoint(config, None, found, {**described, "from_scratch": True}, tokenizer)
    weights = read_pretrained(start) if published else read_weights(Path(start))
    path = Path(start) / "config.json"
    about = json.loads(path.read_text(encoding="utf-8-sig")) if path.is_file() else {}
    described |= {"weights": digest_of(weights), "provenance": about.get("provenance", {})}
    return StartingPoint(config, weights, found, described, tokenizer)
