"""The settings of pretraining, shared by the command line and Python callers."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Literal


@dataclasses.dataclass(frozen=True)
class PretrainSettings:
    """What a pretraining run does; the same settings, corpora, vocabulary and start give the same weights."""

    steps: Annotated[int, "optimiser steps; a later run may ask for more, and say --decay-steps as it was"] = 100_000
    batch_size: Annotated[int, "samples a step, of all processes together"] = 256
    max_seq_length: Annotated[int, "tokens a sample, special tokens included"] = 512
    short_seq_prob: Annotated[float, "share of samples that are cut short at random"] = 0.1
    split: Annotated[str, "shares of the documents for training, validation and test"] = "949,50,1"
    sentence_order: Annotated[bool, "predict whether two neighbouring texts were swapped"] = True
    masked_lm_prob: Annotated[float, "share of the tokens to predict"] = 0.15
    masking: Annotated[
        str, "units masked, an entry an epoch, the last goes on: 'character; 0.7 word 0.2 phrase 0.1 entity'"
    ] = "word"
    max_ngrams: Annotated[int, "units masked together at most"] = 3
    layout: Annotated[
        Literal["padded", "packed"], "rows of one sample each, or several samples in a row of full length"
    ] = "padded"
    micro_tokens: Annotated[
        int, "tokens in a forward pass, padding counted; a step's batch is cut into so many, their gradients added up"
    ] = 16_384
    learning_rate: Annotated[float, "peak learning rate"] = 1e-4
    min_learning_rate: Annotated[float, "learning rate at the end of the decay and after it"] = 1e-5
    warmup_steps: Annotated[int, "steps from 0 to the peak; 0 is a hundredth of the decay's"] = 0
    decay_steps: Annotated[int, "step at which the linear decay ends; 0 is the last one"] = 0
    weight_decay: Annotated[float, "decoupled weight decay; biases and norms are left out"] = 0.01
    beta2: Annotated[float, "AdamW's decay of the squared gradients"] = 0.999
    clip_norm: Annotated[float, "bound of the global gradient norm; 0 is none"] = 1.0
    dropout: Annotated[float, "dropout; a small model that sees its corpus about once needs none"] = 0.1
    precision: Annotated[Literal["fp32", "bf16", "fp16"], "of the matrix products; 16 bits need a GPU"] = "fp32"
    recompute: Annotated[bool, "forget the layers' inner states and compute them again: less memory, more time"] = False
    position_start: Annotated[
        Literal["normal", "sinusoidal"], "how a new position table starts; small models learn sooner from sinusoids"
    ] = "normal"
    task_id: Annotated[int, "row of the task-type table (ERNIE 2.0 and 3.0) that this run trains"] = 0
    seed: Annotated[int, "seed of weights, order, masks and dropout"] = 1

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1 or self.micro_tokens < 1:
            raise ValueError("--steps, --batch-size and --micro-tokens must be at least 1.")
        if not 0 < self.masked_lm_prob < 1:
            raise ValueError(f"--masked-lm-prob must lie between 0 and 1, not at {self.masked_lm_prob}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"--dropout must be 0 or more and below 1, not {self.dropout}.")
        if not 0 <= self.weight_decay < 1 or not 0 <= self.beta2 < 1 or not 0 <= self.clip_norm < math.inf:
            raise ValueError("--weight-decay and --beta2 must be 0 or more and below 1, --clip-norm 0 or more.")
        if not 0 <= self.min_learning_rate <= self.learning_rate < math.inf:
            raise ValueError(
                f"--min-learning-rate {self.min_learning_rate} must lie between 0 and --learning-rate "
                f"{self.learning_rate}."
            )
        if not 0 <= self.warmup_steps <= self.last_decay_step:
            raise ValueError(
                f"--warmup-steps {self.warmup_steps} must lie between 0 and the end of the decay, step "
                f"{self.last_decay_step}."
            )
        parse_masking(self.masking)

    @property
    def last_decay_step(self) -> int:
        """The step at which the learning rate reaches its minimum."""
        return self.decay_steps or self.steps

    @property
    def last_warmup_step(self) -> int:
        """The step at which the learning rate reaches its peak."""
        return self.warmup_steps or max(1, self.last_decay_step // 100)


@dataclasses.dataclass(frozen=True)
class ShapeSettings:
    """The shape of a model that starts from random weights."""

    variant: Annotated[str, "a published shape such as ernie-3.0-nano-zh; the flags below are then left out"] = ""
    hidden_size: Annotated[int, "width of the hidden states"] = 312
    num_hidden_layers: Annotated[int, "encoder layers"] = 4
    num_attention_heads: Annotated[int, "attention heads; divides the width"] = 12
    intermediate_size: Annotated[int, "width of the feed-forward layers; 0 is four times --hidden-size"] = 0
    hidden_act: Annotated[Literal["relu", "gelu"], "activation of the feed-forward layers"] = "gelu"
    max_position_embeddings: Annotated[int, "longest input in tokens"] = 512
    initializer_range: Annotated[float, "spread of the random weights; narrow models want more"] = 0.02


LEVELS = ("character", "word", "phrase", "entity")


def parse_masking(text: str) -> tuple[tuple[float, ...], ...]:
    """`"character; 0.7 word 0.3 entity"` -> a row of shares (character, word, phrase, entity) an epoch."""
    rows = []
    for entry in text.split(";"):
        words = entry.split()
        pairs = [("1", words[0])] if len(words) == 1 else list(zip(words[::2], words[1::2], strict=False))
        try:
            shares = {level: float(share) for share, level in pairs}
        except ValueError:
            shares = {}
        if (len(words) > 1 and len(words) % 2) or not shares or not shares.keys() <= set(LEVELS):
            raise ValueError(
                f"--masking: {entry.strip()!r} is no level ({', '.join(LEVELS)}) and no list of shares such as "
                "'0.7 word 0.3 entity'."
            )
        if min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-6:
            raise ValueError(f"--masking: the shares of {entry.strip()!r} do not add up to 1.")
        rows.append(tuple(shares.get(level, 0.0) for level in LEVELS))
    return tuple(rows)


@dataclasses.dataclass(frozen=True)
class PretrainRunSettings:
    """How a pretraining run is carried out and watched; none of it changes the weights."""

    threads: Annotated[int, "threads that make batches ahead"] = 1
    log_every: Annotated[int, "steps between two records of loss and speed"] = 10
    evaluate_every: Annotated[int, "steps between two evaluations on the validation split; 0 is at the end only"] = 1000
    evaluation_samples: Annotated[int, "samples of the validation split to evaluate on, at most"] = 1024
    save_every: Annotated[int, "steps between two checkpoints; one is written at the end, too"] = 1000
    keep: Annotated[int, "latest checkpoints to keep"] = 2
    milestone_every: Annotated[int, "of the checkpoints, those at multiples of it are kept for ever; 0 is none"] = 0
    most_bad_steps: Annotated[int, "steps in a row whose gradients are not finite before the run stops"] = 20
    resume: Annotated[bool, "go on from the latest checkpoint in --output; otherwise refuse where there is one"] = True

    def __post_init__(self) -> None:
        if min(self.threads, self.log_every, self.save_every, self.keep, self.most_bad_steps) < 1:
            raise ValueError("--threads, --log-every, --save-every, --keep and --most-bad-steps must be at least 1.")
        if min(self.evaluate_every, self.milestone_every) < 0 or self.evaluation_samples < 1:
            raise ValueError(
                "--evaluate-every and --milestone-every must be 0 or more, --evaluation-samples at least 1."
            )
