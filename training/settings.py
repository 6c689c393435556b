"""The settings of pretraining and finetuning: one class a command, shared by the command line and Python callers."""

from __future__ import annotations

import dataclasses
from typing import Annotated


@dataclasses.dataclass
class PretrainSettings:
    """Settings of one pretraining run."""

    steps: Annotated[int, "optimiser steps"] = 8000
    batch_size: Annotated[int, "rows of the full length per step; shorter rows are as many more"] = 8
    max_seq_length: Annotated[int, "tokens per row, [CLS] and [SEP] included"] = 256
    short_seq_length: Annotated[int, "tokens per row in the short stage, which comes first"] = 64
    short_share: Annotated[float, "share of the steps spent in the short stage"] = 0.85
    mask_probability: Annotated[
        float, "share of the tokens to predict; small models learn faster above BERT's 0.15"
    ] = 0.4
    basic_level_share: Annotated[float, "share of the steps, at the start, that mask single tokens, not words"] = 0.5
    learning_rate: Annotated[float, "peak learning rate; linear warm-up, then linear decay to a hundredth"] = 2e-3
    warmup_share: Annotated[float, "share of the steps spent warming up"] = 0.05
    weight_decay: Annotated[float, "decoupled weight decay; biases and norms are left out"] = 0.01
    clip_norm: Annotated[float, "bound of the global gradient norm"] = 1.0
    dropout: Annotated[float, "dropout; a small model that sees its corpus about once needs none"] = 0.0
    seed: Annotated[int, "seed of weights, order and masks"] = 1

    def __post_init__(self) -> None:
        if not 3 <= self.short_seq_length <= self.max_seq_length:
            raise ValueError(
                f"--short-seq-length is {self.short_seq_length}; it must be at least 3, for [CLS], a token and [SEP], "
                f"and at most --max-seq-length, which is {self.max_seq_length}."
            )
        if min(self.steps, self.batch_size) < 1:
            raise ValueError("--steps and --batch-size must be at least 1.")
        if not 0 < self.mask_probability < 1:
            raise ValueError(f"--mask-probability must lie between 0 and 1, not at {self.mask_probability}.")


@dataclasses.dataclass
class FinetuneSettings:
    """Settings of one finetuning run."""

    epochs: Annotated[int, "passes over the training set"] = 4
    batch_size: Annotated[int, "examples per step"] = 32
    max_seq_length: Annotated[int, "tokens per example; longer ones are cut"] = 192
    learning_rate: Annotated[float, "peak learning rate; linear warm-up, then linear decay"] = 5e-4
    dropout: Annotated[float, "dropout of the encoder and the head"] = 0.1
    seed: Annotated[int, "seed of the new head, of the order and of dropout"] = 1
