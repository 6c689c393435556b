"""The model of a pretraining run before its first step: its shape, and its random or given weights."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import paddle

from model_build.bundle import read_vocabulary
from model_build.config import VARIANTS, ErnieConfig, variant
from model_build.ernie import set_sinusoidal_positions
from model_build.heads import ErnieForPretraining
from model_build.weights import left_at_random, load_state, read_pretrained, read_weights
from training.pretraining.settings import PretrainSettings, ShapeSettings
from training.runs.initial_weights import config_of, digest_of

log = logging.getLogger(__name__)


def identity_of(start: str | None) -> str | None:
    """The initial weights, for the identity of a run: a published name, or the digest of weights on disk.

    The digest is of the arrays, not of the file: Paddle writes names into the file that depend on other layers of its
    process. Raises WeightsError if there are no weights.
    """
    if start is None or (start in VARIANTS and not Path(start).exists()):
        return start
    return digest_of(read_weights(Path(start)))


def shape_of(shape: ShapeSettings, settings: PretrainSettings, start: str | None, vocab: Path) -> ErnieConfig:
    """The shape of a run: that of the variant if one is named, otherwise that of `start`, otherwise that of the flags.

    A shape from flags has one embedding per token of `vocab`; a published shape keeps its published vocabulary size.
    Raises ValueError for unknown names and invalid shapes.
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
    """The shape with the task id of the run. Raises ValueError if the task-type embedding has no such row."""
    if not 0 <= settings.task_id < config.task_type_vocab_size:
        raise ValueError(
            f"--task-id {settings.task_id} must be 0 or more and below {config.task_type_vocab_size}, the rows of the "
            "task-type embedding."
        )
    if settings.task_id and not config.use_task_id:
        raise ValueError(
            "--task-id needs a model with a task-type embedding (ERNIE 2.0 and 3.0), which this model lacks."
        )
    return dataclasses.replace(config, task_id=settings.task_id)


def initial_model(config: ErnieConfig, settings: PretrainSettings, start: str | None) -> ErnieForPretraining:
    """The model of a run before its first step; heads that `start` lacks are randomly initialised and logged."""
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
    state = read_weights(Path(start)) if Path(start).exists() else read_pretrained(start)
    load_state(model, state, new_heads=("cls.", "ernie.pooler."))
    if new := left_at_random(model, state):
        log.info("%s lacks %s: these are randomly initialised", start, ", ".join(new))
    return model
