"""Tagged sentences: one token and its tag per line as in CoNLL files, or `.jsonl` with `tokens` and `tags`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from training.datasets.examples import TaggedSentence
from training.datasets.tag_schemes import TAG, detect_scheme
from training.datasets.text_file import read_json_lines, read_lines

log = logging.getLogger(__name__)

SUFFIXES = (".txt", ".conll", ".tsv", ".bio", ".bmes")


def read_tagged(path: Path) -> list[TaggedSentence]:
    """Sentences of a file; `.jsonl` has one object per line, files of `SUFFIXES` have one token per line.

    In the latter, one space or tab separates token and tag, and a blank line separates sentences. Tags that the scheme
    does not allow are counted in one warning and kept. Raises ValueError, which names file and line, for a line that is
    not a token and a tag, a tag of no known scheme, and lists of different lengths.
    """
    if path.suffix == ".jsonl":
        sentences = [_from_json(where, row) for where, row in read_json_lines(path)]
    elif path.suffix in SUFFIXES:
        sentences = list(_from_columns(path))
    else:
        raise ValueError(f"{path}: unknown format of tagged sentences; give .jsonl or {', '.join(SUFFIXES)}.")
    warn_of_faults(sentences, str(path))
    return sentences


def warn_of_faults(sentences: Sequence[TaggedSentence], name: str) -> None:
    """Logs one warning that counts the tags that the scheme of the sentences does not allow after the tag before.

    Raises ValueError, which begins with `name`, if the tags belong to no known scheme.
    """
    if all(tag == "O" for sentence in sentences for tag in sentence.tags):
        return
    try:
        scheme = detect_scheme(sentence.tags for sentence in sentences)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    faults = [(sentence, index) for sentence in sentences for index in scheme.faults(sentence.tags)]
    if faults:
        sentence, index = faults[0]
        log.warning(
            "%s: %d tags are not allowed in their place by %s and are kept; the first is token %d, %s, of the "
            "sentence at %s",
            name, len(faults), scheme.name, index + 1, sentence.tags[index], sentence.where.rpartition(": ")[2],
        )  # fmt: skip


def _from_columns(path: Path) -> Iterator[TaggedSentence]:
    tokens: list[str] = []
    tags: list[str] = []
    known: dict[str, tuple[str, str]] = {}  # most lines of a large file are repeated
    first = 1
    for number, line in enumerate([*read_lines(path), ""], start=1):
        if pair := known.get(line):
            tokens.append(pair[0])
            tags.append(pair[1])
        elif line.strip():
            token, tag = known[line] = _token_and_tag(line, f"{path}: line {number}")
            tokens.append(token)
            tags.append(tag)
        else:
            if tokens:
                yield TaggedSentence(tuple(tokens), tuple(tags), f"{path}: line {first}")
                tokens, tags = [], []
            first = number + 1


def _token_and_tag(line: str, where: str) -> tuple[str, str]:
    fields = line.split("\t" if "\t" in line else " ")
    if len(fields) != 2 or not all(fields):
        raise ValueError(f"{where} is not a token, a space or tab, and a tag: {line[:40]!r}.")
    return fields[0], _tag(fields[1], where)


def _from_json(where: str, row: dict[str, object]) -> TaggedSentence:
    tokens, tags = (row.get(key) for key in ("tokens", "tags"))
    if not (isinstance(tokens, list) and isinstance(tags, list) and all(isinstance(x, str) for x in (*tokens, *tags))):
        raise ValueError(f"{where} must have tokens and tags, two lists of strings.")
    if len(tokens) != len(tags) or not tokens:
        raise ValueError(
            f"{where} has {len(tokens)} tokens and {len(tags)} tags; give the same number of both, at least one."
        )
    if "" in tokens:
        raise ValueError(f"{where}: token {tokens.index('') + 1} is empty.")
    return TaggedSentence(tuple(tokens), tuple(_tag(tag, where) for tag in tags), where)


def _tag(tag: str, where: str) -> str:
    if TAG.fullmatch(tag):
        return sys.intern(tag)
    raise ValueError(f"{where}: tag {tag!r} is neither O nor one of B, I, M, E, S, L and U with a type, such as B-PER.")
