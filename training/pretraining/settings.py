"""The settings of pretraining, shared by the command line and Python callers."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Literal


@dataclasses.dataclass(frozen=True)
class PretrainSettings:
    """What the weights of a pretraining run depend on, together with corpora, vocabulary and start."""

    steps: Annotated[
        int,
        "number of optimiser steps; to extend a finished run, give more steps and the --decay-steps of that run",
    ] = 100_000
    batch_size: Annotated[int, "samples per step, over all processes"] = 256
    max_seq_length: Annotated[int, "maximum number of tokens per sample, including special tokens"] = 512
    short_seq_prob: Annotated[float, "share of samples with a random shorter length"] = 0.1
    split: Annotated[str, "shares of the documents for training, validation and test"] = "949,50,1"
    sentence_order: Annotated[
        bool, "also train on sentence order: the model predicts whether two neighbouring texts are swapped"
    ] = True
    masked_lm_prob: Annotated[float, "share of the tokens that are masked and predicted"] = 0.15
    masking: Annotated[
        str,
        "unit to mask, one entry per epoch, separated by ';'; all later epochs use the last entry. An entry is a "
        "unit (character, word, phrase or entity) or shares such as '0.7 word 0.2 phrase 0.1 entity'",
    ] = "word"
    max_ngrams: Annotated[int, "maximum number of neighbouring units that are masked together"] = 3
    layout: Annotated[
        Literal["padded", "packed"],
        "padded: one sample per row; packed: several samples per row, which wastes less computation on padding",
    ] = "padded"
    micro_tokens: Annotated[
        int,
        "maximum number of tokens in one forward pass, including padding; larger batches are split into micro-batches, "
        "and the gradients of the micro-batches are added; set a lower number if memory is short",
    ] = 16_384
    learning_rate: Annotated[float, "peak learning rate"] = 1e-4
    min_learning_rate: Annotated[float, "learning rate at the end of the decay and afterwards"] = 1e-5
    warmup_steps: Annotated[
        int, "number of steps in which the learning rate rises from 0 to its peak; 0 means a hundredth of --decay-steps"
    ] = 0
    decay_steps: Annotated[int, "step at which the linear decay ends; 0 means --steps"] = 0
    weight_decay: Annotated[float, "decoupled weight decay of AdamW; biases and layer norms do not decay"] = 0.01
    beta2: Annotated[float, "AdamW's decay rate of the squared gradients"] = 0.999
    clip_norm: Annotated[float, "maximum global gradient norm; larger gradients are scaled down; 0 means no limit"] = (
        1.0
    )
    dropout: Annotated[
        float, "dropout probability; use 0 for small models that are trained on the corpus about once"
    ] = 0.1
    precision: Annotated[
        Literal["fp32", "bf16", "fp16"], "precision of the matrix products; bf16 and fp16 need a GPU"
    ] = "fp32"
    recompute: Annotated[
        bool, "compute the layers' activations twice instead of keeping them: less memory, more time"
    ] = False
    position_start: Annotated[
        Literal["normal", "sinusoidal"], "initial position embeddings; small models learn faster with sinusoidal ones"
    ] = "normal"
    task_id: Annotated[int, "row of the task-type embedding (ERNIE 2.0 and 3.0) that is used and trained"] = 0
    seed: Annotated[int, "random seed of weights, sample order, masks and dropout"] = 1

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1 or self.micro_tokens < 1:
            raise ValueError("--steps, --batch-size and --micro-tokens must be at least 1.")
        if not 0 < self.masked_lm_prob < 1:
            raise ValueError(f"--masked-lm-prob must be above 0 and below 1, not {self.masked_lm_prob}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"--dropout must be 0 or more and below 1, not {self.dropout}.")
        if not 0 <= self.weight_decay < 1 or not 0 <= self.beta2 < 1 or not 0 <= self.clip_norm < math.inf:
            raise ValueError("--weight-decay and --beta2 must be 0 or more and below 1, --clip-norm 0 or more.")
        if not 0 <= self.min_learning_rate <= self.learning_rate < math.inf:
            raise ValueError(
                f"--min-learning-rate {self.min_learning_rate} must be between 0 and --learning-rate "
                f"{self.learning_rate}."
            )
        if not 0 <= self.warmup_steps <= self.last_decay_step:
            raise ValueError(
                f"--warmup-steps {self.warmup_steps} must be between 0 and the last step of the decay, "
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
    """The shape of the model, where --start does not give it."""

    variant: Annotated[
        str, "name of a published shape, such as ernie-3.0-nano-zh; the other flags of this group then have no effect"
    ] = ""
    hidden_size: Annotated[int, "width of the hidden states"] = 312
    num_hidden_layers: Annotated[int, "number of encoder layers"] = 4
    num_attention_heads: Annotated[int, "number of attention heads; must divide --hidden-size"] = 12
    intermediate_size: Annotated[int, "width of the feed-forward layers; 0 means 4 times --hidden-size"] = 0
    hidden_act: Annotated[Literal["relu", "gelu"], "activation of the feed-forward layers"] = "gelu"
    max_position_embeddings: Annotated[
        int, "number of position embeddings, which is the maximum number of tokens of an input"
    ] = 512
    initializer_range: Annotated[
        float,
        "standard deviation of the random weights; models with a small --hidden-size learn better with a larger value, "
        "such as 0.05",
    ] = 0.02


LEVELS = ("character", "word", "phrase", "entity")


def parse_masking(text: str) -> tuple[tuple[float, ...], ...]:
    """`"character; 0.7 word 0.3 entity"` -> one row of shares (character, word, phrase, entity) per epoch.

    Raises ValueError for an unknown unit, and for shares that do not add up to 1.
    """
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
                f"--masking: {entry.strip()!r} is neither a unit ({', '.join(LEVELS)}) nor a list of shares such as "
                "'0.7 word 0.3 entity'."
            )
        if min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-6:
            raise ValueError(f"--masking: the shares of {entry.strip()!r} do not add up to 1.")
        rows.append(tuple(shares.get(level, 0.0) for level in LEVELS))
    return tuple(rows)


@dataclasses.dataclass(frozen=True)
class PretrainRunSettings:
    """How a pretraining run executes and reports; none of it changes the weights."""

    threads: Annotated[int, "number of threads that prepare batches in advance"] = 1
    log_every: Annotated[int, "number of steps between two records of loss and speed"] = 10
    evaluate_every: Annotated[
        int, "number of steps between two evaluations on the validation split; 0 means only at the end"
    ] = 1000
    evaluation_samples: Annotated[int, "maximum number of validation samples to evaluate on"] = 1024
    save_every: Annotated[int, "number of steps between two checkpoints; the last step is always saved"] = 1000
    keep: Annotated[int, "number of checkpoints to keep; the latest are kept"] = 2
    milestone_every: Annotated[
        int, "checkpoints at multiples of this number of steps are never removed; 0 turns this off"
    ] = 0
    most_bad_steps: Annotated[int, "stop after this number of consecutive steps without finite gradients"] = 20
    resume: Annotated[
        bool, "resume from the latest checkpoint in --output; with --no-resume, the command fails if there is one"
    ] = True

    def __post_init__(self) -> None:
        if min(self.threads, self.log_every, self.save_every, self.keep, self.most_bad_steps) < 1:
            raise ValueError("--threads, --log-every, --save-every, --keep and --most-bad-steps must be at least 1.")
        if min(self.evaluate_every, self.milestone_every) < 0 or self.evaluation_samples < 1:
            raise ValueError(
                "--evaluate-every and --milestone-every must be 0 or more, --evaluation-samples at least 1."
            )
