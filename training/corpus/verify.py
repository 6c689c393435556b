"""Verifies a corpus: checksums, index, and the ranges of token ids and boundary bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from model_build.bundle import read_vocabulary
from model_build.tokenizer_config import TokenizerSettings
from training.corpus.indexed import ENTITY, INSIDE, CorpusError, IndexedCorpus, with_suffix

BLOCK = 1 << 22


def read_description(prefix: Path) -> dict[str, Any]:
    """The content of `prefix.json`; empty if the file is absent, as for corpora of other programs.

    Raises CorpusError if the file is damaged.
    """
    path = with_suffix(prefix, ".json")
    if not path.is_file():
        return {}
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CorpusError(f"{path} is damaged: {error}; copy it or build the corpus again.") from error
    if not isinstance(description, dict):
        raise CorpusError(f"{path} is damaged: it is not a JSON object; copy it or build the corpus again.")
    return description


def open_with_vocabulary(prefix: Path, vocab: Path) -> IndexedCorpus:
    """Opens a corpus that was built with the vocabulary. Raises CorpusError if it was built with another one.

    For a corpus without `.json`, from another program, all token ids are read and compared with the vocabulary size.
    """
    corpus = IndexedCorpus.open(prefix)
    size, made_with = len(read_vocabulary(vocab)), read_description(prefix).get("vocabulary")
    if not made_with:
        check_ids(corpus, size)
    elif made_with["sha256"] != hashlib.sha256(vocab.read_bytes()).hexdigest():
        raise CorpusError(
            f"{prefix} was built with another vocabulary, of {made_with['tokens']:,} tokens, than {vocab} with its "
            f"{size:,}; give --vocab the file it was built with, or build the corpus again."
        )
    return corpus


def tokenizer_of(corpora: Iterable[IndexedCorpus]) -> TokenizerSettings:
    """How the text of the corpora was read: the settings for a model that learns from them.

    A corpus of another program, without these settings, is left out. Raises CorpusError if two corpora differ.
    """
    found: list[tuple[Path, TokenizerSettings]] = []
    for corpus in corpora:
        for each in _built(read_description(corpus.prefix)):
            how = TokenizerSettings(rules=each.get("rules", "bert"), fold_width=each.get("plain_width", False))
            found.append((corpus.prefix, how))
    for prefix, how in found[1:]:
        if how != found[0][1]:
            raise CorpusError(
                f"the text of {found[0][0]} and of {prefix} was read with different --rules or --plain-width, but a "
                "model reads text in one way; build one of them again."
            )
    return found[0][1] if found else TokenizerSettings()


def _built(description: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The settings of `corpus build`; of a merged corpus those of each part."""
    if settings := description.get("settings"):
        yield settings
    for part in description.get("merged", []):
        yield from _built(part)


def verify_corpus(prefix: Path) -> IndexedCorpus:
    """Reads every byte of a corpus once and returns the open corpus.

    Raises CorpusError, which names the file, for a file that is absent or differs from `prefix.json` in length or
    checksum, a token id beyond the vocabulary, a boundary byte above 4, and a sentence that begins inside a unit.
    Without `.json`, checksums and vocabulary are not checked.
    """
    description = read_description(prefix)
    for suffix, file in description.get("files", {}).items():
        _check_file(with_suffix(prefix, suffix), file)
    corpus = IndexedCorpus.open(prefix)
    vocabulary = description.get("vocabulary")
    check_ids(corpus, vocabulary["tokens"] if vocabulary else np.iinfo(corpus.tokens.dtype).max + 1)
    if corpus.boundaries is not None:
        _check_boundaries(corpus, corpus.boundaries)
    return corpus


def _check_file(path: Path, expected: Mapping[str, Any]) -> None:
    if not path.is_file():
        raise CorpusError(f"{path} is absent; copy it or build the corpus again.")
    size = path.stat().st_size
    if size != expected["bytes"]:
        raise CorpusError(
            f"{path} has {size} bytes, but should have {expected['bytes']}; copy it or build the corpus again."
        )
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    if digest.hexdigest() != expected["sha256"]:
        raise CorpusError(
            f"{path} is damaged: its checksum differs from the .json file; copy it or build the corpus again."
        )


def check_ids(corpus: IndexedCorpus, limit: int) -> None:
    """Reads every token. Raises CorpusError, which names the first token id that is not in [0, limit)."""
    for start in range(0, len(corpus.tokens), BLOCK):
        block = corpus.tokens[start : start + BLOCK]
        if block.min() < 0 or block.max() >= limit:
            at = start + int(np.flatnonzero((block < 0) | (block >= limit))[0])
            raise CorpusError(
                f"{corpus.prefix}.bin has the id {corpus.tokens[at]} at token {at}, but ids go from 0 to {limit - 1}; "
                "give the vocabulary that the corpus was built with."
            )


def _check_boundaries(corpus: IndexedCorpus, boundaries: np.ndarray) -> None:
    for start in range(0, len(boundaries), BLOCK):
        if boundaries[start : start + BLOCK].max() > ENTITY:
            raise CorpusError(f"{corpus.prefix}.seg has a byte above {ENTITY}; copy it or build the corpus again.")
    begins = corpus.offsets[:-1][np.diff(corpus.offsets) > 0]
    for start in range(0, len(begins), BLOCK):
        if (boundaries[begins[start : start + BLOCK]] == INSIDE).any():
            raise CorpusError(
                f"{corpus.prefix}.seg has a sentence that begins inside a unit; copy it or build the corpus again."
            )
