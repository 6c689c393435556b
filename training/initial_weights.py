"""Where training begins: random weights, a published model by name, or weights on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from model_build.bundle import read_vocabulary
from model_build.config import VARIANTS, ErnieConfig, variant
from model_build.ernie import set_sinusoidal_positions
from model_build.heads import ErnieForPretraining
from model_build.weights import left_at_random, load_state, read_pdparams, read_pretrained
from training.settings import PretrainSettings, ShapeSettings

log = logging.getLogger(__name__)


def config_of(start: str, flag: str = "--start", instead: str = "") -> ErnieConfig:
    """The shape of what a run starts from: a folder's `config.json`, or a published model's.

    Raises ValueError that names the flag, and what may be done instead of giving a config.json.
    """
    if start in VARIANTS:
        return VARIANTS[start]
    path = Path(start)
    for name in ("config.json", "model_config.json"):
        if (path / name).is_file():
            return ErnieConfig.from_json(path / name)
    if path.is_file():
        raise ValueError(f"{flag} {start} is a file and does not tell its shape; give the folder with its config.json.")
    if path.is_dir():
        raise ValueError(f"{start} has no config.json; put it there{instead}.")
    raise ValueError(
        f"{flag} {start!r} is neither a folder nor a file on this disk, nor a published model; those are: "
        f"{', '.join(VARIANTS)}."
    )


def identity_of(start: str | None) -> str | None:
    """What a run starts from, by content where it lies on the disk. Raises WeightsError where it does not.

    The file itself will not do: Paddle writes names into it that depend on what else its process has made.
    """
    if start is None or (start in VARIANTS and not Path(start).exists()):
        return start
    return digest_of(read_pdparams(Path(start)))


def digest_of(state: Mapping[str, Any]) -> str:
    """Of weights by name, in no order."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        array = np.ascontiguousarray(value)
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return f"sha256 {digest.hexdigest()}"


def shape_of(shape: ShapeSettings, settings: PretrainSettings, start: str | None, vocab: Path) -> ErnieConfig:
    """The shape of a run: the variant's if one is named, else that of `start`, else the flags'.

    The flags' model has a row for every token of `vocab`, and a published shape as many as it was published with.
    Raises ValueError for names that are unknown and shapes that cannot be.
    """
    if shape.variant:
        config = variant(shape.variant)
    elif start and not Path(start).is_file():
        config = config_of(start, instead=", or give the .pdparams file itself and --variant or the shape flags")
    else:
        config = ErnieConfig(
            vocab_size=len(read_vocabulary(vocab)),
            hidden_size=shape.hidden_size,
            num_hidden_layers=shape.num_hidden_layers,
            num_attention_heads=shape.num_attention_heads,
            intermediate_size=shape.intermediate_size or 4 * shape.hidden_size,
            hidden_act=shape.hidden_act,
            max_position_embeddings=shape.max_position_embeddings,
            initializer_range=shape.initializer_range,
        )
    return with_task_id(config, settings)


def with_task_id(config: ErnieConfig, settings: PretrainSettings) -> ErnieConfig:
    """The shape with the run's row of its task-type table. Raises ValueError where there is none."""
    if not 0 <= settings.task_id < config.task_type_vocab_size:
        raise ValueError(
            f"--task-id {settings.task_id} is no row of the task-type table; it has {config.task_type_vocab_size}."
        )
    if settings.task_id and not config.use_task_id:
        raise ValueError("--task-id is for models with a task-type table (ERNIE 3.0); this one has none.")
    return dataclasses.replace(config, task_id=settings.task_id)


def initial_model(config: ErnieConfig, settings: PretrainSettings, start: str | None) -> ErnieForPretraining:
    """The model of a run before its first step; heads that `start` has not begin at random, and a log line says so."""
    shape = dataclasses.replace(
        config, hidden_dropout_prob=settings.dropout, attention_probs_dropout_prob=settings.dropout
    )
    paddle.seed(settings.seed)
    model = ErnieForPretraining(shape, sentence_order=settings.sentence_order)
    model.ernie.encoder.recompute = settings.recompute
    if settings.position_start == "sinusoidal":
        set_sinusoidal_positions(model.ernie)
    if start is None:
        return model
    state = read_pdparams(Path(start)) if Path(start).exists() else read_pretrained(start)
    load_state(model, state, new_heads=("cls.", "ernie.pooler."))
    if new := left_at_random(model, state):
        log.info("%s has no %s: they begin at random", start, ", ".join(new))
    return model


@dataclass(frozen=True)
class StartingPoint:
    """What finetuning begins with."""

    config: ErnieConfig
    weights: Mapping[str, Any] | None
    """by name; None: at random"""
    vocab: Path
    described: Mapping[str, Any]
    """JSON: where the weights come from, for the checkpoint that is made of them"""


def starting_point(start: str, vocab: Path | None = None, *, from_scratch: bool = False) -> StartingPoint:
    """A published model by its PaddleNLP name, or a folder with config.json, model_state.pdparams and vocab.txt.

    `vocab` takes the place of the folder's; `from_scratch` takes the shape only, and random weights. Raises ValueError
    (WeightsError) that says what is missing and what to put where.
    """
    config = config_of(start, "--pretrained")
    published = start in VARIANTS and not Path(start).exists()
    found = vocab or (None if published else Path(start) / "vocab.txt")
    if found is None:
        raise ValueError(f"the vocabulary of {start} is not known here; give its vocab.txt with --vocab.")
    if not found.is_file():
        raise ValueError(f"{found} does not exist; put the model's vocabulary there, or give it with --vocab.")
    tokens = read_vocabulary(found)
    if "[PAD]" not in tokens or tokens.index("[PAD]") != config.pad_token_id:
        row = tokens.index("[PAD]") if "[PAD]" in tokens else "nowhere"
        raise ValueError(
            f"{found} has [PAD] at {row}, but {start} pads with token {config.pad_token_id}; give its own."
        )
    if len(tokens) > config.vocab_size:
        raise ValueError(f"{found} has more tokens than {start} has rows ({config.vocab_size:,}); give its own.")
    described: dict[str, Any] = {"start": start if published else Path(start).absolute().name}
    if from_scratch:
        return StartingPoint(config, None, found, {**described, "from_scratch": True})
    weights = read_pretrained(start) if published else read_pdparams(Path(start))
    path = Path(start) / "config.json"
    about = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    described |= {"weights": digest_of(weights), "provenance": about.get("provenance", {})}
    return StartingPoint(config, weights, found, described)
