"""The texts of labelled rows, and of a file of any kind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from training.corpus.plain_text import read_documents
from training.datasets.examples import Example, Question, TaggedSentence
from training.datasets.squad import read_questions
from training.datasets.table import TEXT, read_examples
from training.datasets.tag_schemes import TAG
from training.datasets.tagged import SUFFIXES, read_tagged
from training.datasets.text_file import read_json_lines, read_text
from training.datasets.thucnews import read_labelled

Row = Example | TaggedSentence | Question


def texts_of(row: Row) -> list[str]:
    """The texts of a row as they may occur in a corpus; for a question only its context."""
    if isinstance(row, TaggedSentence):
        return ["".join(row.tokens)]
    if isinstance(row, Question):
        return [row.context]
    return [row.text] if row.text_pair is None else [row.text, row.text_pair]


def read_texts(path: Path) -> list[str]:
    """The texts of a labelled file of any task, or the documents of a text file, each joined to one string.

    A pair gives two texts; a context gives one text, even if it has several questions. Raises ValueError.
    """
    rows = _read_rows(path)
    if rows is None:
        return ["".join(document) for document in read_documents(path)]
    texts = [text for row in rows for text in texts_of(row)]
    return list(dict.fromkeys(texts)) if isinstance(rows[0], Question) else texts


def _read_rows(path: Path) -> Sequence[Row] | None:
    """The rows of a labelled file, None for plain text; detected by suffix and first line."""
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
        # CLUE's data sets are `.json` with one object per line, and plain text may be `.jsonl`: labels are not needed.
        return read_examples(path) if path.suffix == ".jsonl" and "label" in first else _unlabelled(path)
    fields = line.split("\t" if "\t" in line else " ")
    if len(fields) == 2 and len(fields[0]) == 1 and TAG.fullmatch(fields[1]):
        return read_tagged(path)
    if path.suffix in (".tsv", ".csv"):
        return read_examples(path)
    return read_labelled(path) if len(fields) == 2 and _is_labelled(path) else None


def _is_labelled(path: Path) -> bool:
    """Whether every line is `label<TAB>text`, which does not happen in plain text."""
    try:
        lines = read_text(path).rstrip("\r\n").split("\n")
    except ValueError:
        return False
    return len(lines) > 1 and all(line.count("\t") == 1 for line in lines)


def _object(line: str) -> dict[str, object] | None:
    """The object on the line; None if the line is the beginning, or the whole, of a file of questions."""
    try:
        value = json.loads(line)
    except json.JSONDecodeError:
        return None
    return value if isinstance(value, dict) and "data" not in value else None


def _unlabelled(path: Path) -> list[Example]:
    """The text of each object; other keys are ignored."""
    examples = []
    for where, row in read_json_lines(path):
        text = next((row[key] for key in TEXT if isinstance(row.get(key), str)), None)
        if text is None:
            raise ValueError(f"{where} needs a string {', '.join(TEXT[:-1])} or {TEXT[-1]}.")
        examples.append(Example("", text, where=where))
    return examples
