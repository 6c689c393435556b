"""The settings of pretraining and finetuning: one class a command, shared by the command line and Python callers."""

from __future__ import annotations

import dataclasses
from typing import Annotated


@dataclasses.dataclass
class PretrainSettings:
    """Settings of one pretraining run."""

    steps: Annotated[int, "optimiser steps"] = 10_000
    batch_size: Annotated[int, "rows per step"] = 16
    max_seq_length: Annotated[int, "tokens per row, [CLS] and [SEP] included"] = 128
    mask_probability: Annotated[float, "share of the tokens to predict"] = 0.15
    basic_level_share: Annotated[float, "share of the steps, at the start, that mask single tokens, not words"] = 0.5
    learning_rate: Annotated[float, "peak learning rate; linear warm-up, then linear decay to a hundredth"] = 1.5e-3
    warmup_share: Annotated[float, "share of the steps spent warming up"] = 0.05
    weight_decay: Annotated[float, "decoupled weight decay; biases and norms are left out"] = 0.01
    clip_norm: Annotated[float, "bound of the global gradient norm"] = 1.0
    dropout: Annotated[float, "dropout; a small model that sees its corpus about once needs none"] = 0.0
    seed: Annotated[int, "seed of weights, order and masks"] = 1

    def __post_init__(self) -> None:
        if self.max_seq_length < 3:
            raise ValueError(f"--max-seq-length is {self.max_seq_length}, but [CLS], a token and [SEP] need 3.")
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
