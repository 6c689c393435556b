"""Contamination: evaluation texts that stand in training text, compared after normalisation."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from native import ErnieTokenizer
from training.corpus.cleaning import clean
from training.corpus.indexed import IndexedCorpus
from training.datasets.corpus import read_documents
from training.datasets.examples import Example, Question, TaggedSentence
from training.datasets.fingerprints import fingerprint, fingerprints
from training.datasets.squad import read_questions
from training.datasets.table import TEXT, read_examples
from training.datasets.tag_schemes import TAG
from training.datasets.tagged import SUFFIXES, read_tagged
from training.datasets.text_file import read_json_lines, read_text
from training.datasets.thucnews import read_labelled
from training.settings import CorpusSettings

Row = Example | TaggedSentence | Question


@dataclass(frozen=True)
class Overlap:
    """What of an evaluation set a model has seen in training."""

    counts: dict[str, int]
    """`texts` of the evaluation set and how many are `in_train`; of questions also what stands there apart:
    `contexts`, `contexts_in_train`, `questions_in_train`"""
    unseen: list[int]
    """indexes of the rows that are not in train"""


def overlap_report(train: Sequence[Row], evaluation: Sequence[Row]) -> Overlap:
    """Compares rows whole: a text, both texts of a pair, the tokens of a sentence, the context of a question.

    A question counts as seen where its context does: the same question on another context gives nothing away.
    """
    seen = {_mark(row) for row in train} - {""}
    unseen = [index for index, row in enumerate(evaluation) if _mark(row) not in seen]
    counts = {"texts": len(evaluation), "in_train": len(evaluation) - len(unseen)}
    if questions := [row for row in evaluation if isinstance(row, Question)]:
        contexts = {_mark(row) for row in questions}
        asked = fingerprints(row.question for row in train if isinstance(row, Question))
        counts["contexts"] = len(contexts)
        counts["contexts_in_train"] = len(contexts & seen)
        counts["questions_in_train"] = sum(fingerprint(row.question) in asked for row in questions)
    return Overlap(counts, unseen)


def _mark(row: Row) -> str:
    """What is the same for two rows whose texts are the same; empty where nothing is left to compare."""
    marks = [fingerprint(text) for text in texts_of(row)]
    return "\n".join(marks) if any(marks) else ""


def texts_of(row: Row) -> list[str]:
    """The texts of a row as they may stand in a corpus; a question is asked of its context, which alone counts."""
    if isinstance(row, TaggedSentence):
        return ["".join(row.tokens)]
    if isinstance(row, Question):
        return [row.context]
    return [row.text] if row.text_pair is None else [row.text, row.text_pair]


def overlapping(training: Iterable[str], evaluation: Iterable[str]) -> list[int]:
    """Indexes of the evaluation texts that also stand in the training texts, whole text against whole text."""
    seen = fingerprints(training)
    return [index for index, text in enumerate(evaluation) if fingerprint(text) in seen]


def read_texts(path: Path) -> list[str]:
    """The texts of a labelled file of any task, or the documents of a text file, each joined to one string.

    A pair gives two texts, a context one however many questions are asked of it.
    """
    rows = _read_rows(path)
    if rows is None:
        return ["".join(document) for document in read_documents(path)]
    texts = [text for row in rows for text in texts_of(row)]
    return list(dict.fromkeys(texts)) if isinstance(rows[0], Question) else texts


def _read_rows(path: Path) -> Sequence[Row] | None:
    """The rows of a labelled file, None for plain text; suffix and first line say which it is."""
    if path.suffix not in (*SUFFIXES, ".csv", ".json", ".jsonl"):
        return None
    with path.open("rb") as file:
        line = next((line for line in file if line.strip()), b"").decode("utf-8-sig", errors="replace").strip()
    if path.suffix in (".json", ".jsonl"):
        first = _object(line)
        if first is None:
            return read_questions(path, lenient=True)
        if "tokens" in first:
            return read_tagged(path)
        # CLUE's sets are `.json` with an object a line, and plain text may be `.jsonl`: neither needs a label here.
        return read_examples(path) if path.suffix == ".jsonl" and "label" in first else _unlabelled(path)
    fields = line.split("\t" if "\t" in line else " ")
    if len(fields) == 2 and len(fields[0]) == 1 and TAG.fullmatch(fields[1]):
        return read_tagged(path)
    if path.suffix in (".tsv", ".csv"):
        return read_examples(path)
    return read_labelled(path) if len(fields) == 2 and _is_labelled(path) else None


def _is_labelled(path: Path) -> bool:
    """Whether every line is `label<TAB>text`, which no plain text is."""
    try:
        lines = read_text(path).rstrip("\r\n").split("\n")
    except ValueError:
        return False
    return len(lines) > 1 and all(line.count("\t") == 1 for line in lines)


def _object(line: str) -> dict[str, object] | None:
    """The object that the line is, unless it is the beginning or whole of a file of questions."""
    try:
        value = json.loads(line)
    except json.JSONDecodeError:
        return None
    return value if isinstance(value, dict) and "data" not in value else None


def _unlabelled(path: Path) -> list[Example]:
    """The text of each line's object, whatever else is in it."""
    examples = []
    for where, row in read_json_lines(path):
        text = next((row[key] for key in TEXT if isinstance(row.get(key), str)), None)
        if text is None:
            raise ValueError(f"{where} has no string {', '.join(TEXT[:-1])} or {TEXT[-1]}.")
        examples.append(Example("", text, where=where))
    return examples


def overlapping_corpora(corpora: Iterable[IndexedCorpus], vocab: Path, evaluation: Sequence[str]) -> list[int]:
    """As `overlapping`, for corpora as `corpus build` makes them of the vocabulary `vocab`.

    Both sides are compared token by token, so what the vocabulary has no token for does not tell texts apart.
    """
    tokenizer = ErnieTokenizer.from_file(vocab)
    marks = [fingerprint(token.removeprefix("##")) for token in tokenizer.tokens]
    numbers = {mark: number for number, mark in enumerate(dict.fromkeys(marks))}
    number_of = np.array([numbers[mark] for mark in marks], dtype=np.int32)
    meant = number_of != numbers.get("", -1)
    # Cleaned as the corpus was, if it was built with the default settings.
    cleaned = (clean(text, CorpusSettings.max_repeat, CorpusSettings.plain_width) for text in evaluation)
    encoded = (np.array(tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int64) for text in cleaned)
    said = [number_of[ids[meant[ids]]].tobytes() for ids in encoded]
    sought = set(said) - {b""}
    seen = {mark for corpus in corpora for mark in _documents(corpus, number_of, meant) if mark in sought}
    return [index for index, mark in enumerate(said) if mark in seen]


def _documents(corpus: IndexedCorpus, number_of: np.ndarray, meant: np.ndarray) -> Iterator[bytes]:
    """A digest-like string of each document: the numbers of its tokens, without those that are punctuation."""
    bounds = corpus.offsets[corpus.documents]
    for start, stop in itertools.pairwise(bounds):
        ids = corpus.tokens[start:stop]
        yield number_of[ids[meant[ids]]].tobytes()
