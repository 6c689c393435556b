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
from model_build.weights import left_at_random, load_state, read_pdparams, read_pretrained
from training.pretraining.settings import PretrainSettings, ShapeSettings
from training.runs.initial_weights import config_of, digest_of

log = logging.getLogger(__name__)


def identity_of(start: str | None) -> str | None:
    """What a run starts from, by content where it lies on the disk. Raises WeightsError where it does not.

    The file itself will not do: Paddle writes names into it that depend on what else its process has made.
    """
    if start is None or (start in VARIANTS and not Path(start).exists()):
        return start
    return digest_of(read_pdparams(Path(start)))


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
