"""The settings of finetuning, shared by the command line and Python callers."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal


@dataclasses.dataclass(frozen=True)
class FinetuneSettings:
    """What the weights of a finetuned model depend on, together with the examples."""

    epochs: Annotated[int, "number of passes over the training examples"] = 4
    batch_size: Annotated[int, "number of rows per step"] = 32
    max_seq_length: Annotated[
        int,
        "maximum number of tokens of an input; longer texts are cut; longer contexts of questions are split into "
        "windows",
    ] = 128
    learning_rate: Annotated[float, "peak learning rate; linear warm-up, then linear decay to 0"] = 5e-5
    warmup_ratio: Annotated[float, "share of the steps in which the learning rate rises from 0"] = 0.1
    weight_decay: Annotated[float, "decoupled weight decay of AdamW; biases and layer norms do not decay"] = 0.01
    clip_norm: Annotated[float, "maximum global gradient norm; larger gradients are scaled down; 0 means no limit"] = (
        1.0
    )
    dropout: Annotated[float, "dropout probability of the encoder and the head"] = 0.1
    class_weights: Annotated[
        Literal["none", "balanced"],
        "classification: balanced gives rare classes the same total weight in the loss as frequent ones",
    ] = "none"
    doc_stride: Annotated[
        int,
        "question answering: number of tokens from the start of one window to the start of the next; at most half a "
        "window",
    ] = 128
    max_answer_length: Annotated[int, "question answering: maximum number of tokens of an answer"] = 30
    metric: Annotated[
        str, "metric on the dev examples that selects the best weights; empty means the first metric of the task"
    ] = ""
    evaluate_every: Annotated[int, "number of steps between two evaluations on the dev examples; 0 means one epoch"] = 0
    patience: Annotated[int, "stop after this number of evaluations without a better result; 0 means never"] = 0
    precision: Annotated[
        Literal["fp32", "bf16", "fp16"], "precision of the matrix products; bf16 and fp16 need a GPU"
    ] = "fp32"
    seed: Annotated[int, "random seed for the new head, the order of the examples and dropout"] = 1

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size, self.doc_stride, self.max_answer_length) < 1:
            raise ValueError("--epochs, --batch-size, --doc-stride and --max-answer-length must be at least 1.")
        if self.max_seq_length < 8:
            raise ValueError(f"--max-seq-length must be at least 8, not {self.max_seq_length}.")
        if not self.learning_rate > 0 or not 0 <= self.warmup_ratio < 1:
            raise ValueError("--learning-rate must be above 0, and --warmup-ratio at least 0 and below 1.")
        if not 0 <= self.dropout < 1 or min(self.weight_decay, self.clip_norm) < 0:
            raise ValueError("--dropout must be 0 or more and below 1, --weight-decay and --clip-norm 0 or more.")
        if min(self.evaluate_every, self.patience, self.seed) < 0:
            raise ValueError("--evaluate-every, --patience and --seed must be 0 or more.")


@dataclasses.dataclass(frozen=True)
class FinetuneRunSettings:
    """How a finetuning run executes and reports; none of it changes the weights."""

    log_every: Annotated[int, "number of steps between two records of the loss"] = 10
    save_every: Annotated[int, "number of steps between two checkpoints; 0 means only at evaluations"] = 0
    most_bad_steps: Annotated[int, "stop after this number of consecutive steps without finite gradients"] = 20
    resume: Annotated[
        bool, "resume from the latest checkpoint in --output; with --no-resume, the command fails if there is one"
    ] = True

    def __post_init__(self) -> None:
        if min(self.log_every, self.most_bad_steps) < 1:
            raise ValueError("--log-every and --most-bad-steps must be at least 1.")
        if self.save_every < 0:
            raise ValueError(f"--save-every must be 0 or more, not {self.save_every}.")
