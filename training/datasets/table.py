"""Labelled texts in tables: `.tsv`, `.csv` and `.jsonl` with columns or keys `label`, `text_a` and maybe `text_b`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from training.datasets.examples import Example
from training.datasets.text_file import read_json_lines, read_lines, read_text

TEXT = ("text_a", "text", "sentence", "sentence1")
TEXT_PAIR = ("text_b", "text_pair", "sentence2")


def read_examples(path: Path, *, labelled: bool = True) -> list[Example]:
    """Rows of a table; its suffix says how it is written. Columns and keys of other names are passed over.

    `.tsv` has a header line and fields between tabs, never quoted; `.csv` a header line and fields quoted as RFC 4180
    says; `.jsonl` an object a line. `text_a` may be called text, sentence or sentence1, and `text_b` text_pair or
    sentence2. White space around values is cut off. Not `labelled`, it needs no label, and one that is there counts for
    nothing: the examples' labels are empty. Raises ValueError naming file and line for what is missing, empty
    or broken.
    """
    if path.suffix == ".jsonl":
        rows: Iterator[tuple[str, Mapping[str, Any]]] = read_json_lines(path)
    elif path.suffix in (".tsv", ".csv"):
        rows = _rows_below_header(
            path, _tab_separated(path) if path.suffix == ".tsv" else _comma_separated(path), labelled
        )
    else:
        raise ValueError(f"{path}: not a table of a known kind; give .tsv, .csv or .jsonl.")
    examples = [_example(where, row, labelled) for where, row in rows]
    if not examples:
        raise ValueError(f"{path}: no example below the header.")
    for example in examples:
        if (example.text_pair is None) != (examples[0].text_pair is None):
            raise ValueError(f"{example.where} is {'one text' if example.text_pair is None else 'a pair'}, "
                             f"but the rows before are not; give all rows a text_b, or none.")  # fmt: skip
    return examples


def _tab_separated(path: Path) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(read_lines(path), start=1):
        yield number, line.split("\t") if line.strip() else []


def _comma_separated(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Records with the number of the line each begins on; a quoted field may hold line ends."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    number = 1
    try:
        for fields in reader:
            yield number, fields
            number = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{path}: line {number} is not CSV: {error}.") from None


def _rows_below_header(
    path: Path, records: Iterator[tuple[int, list[str]]], labelled: bool
) -> Iterator[tuple[str, dict[str, str]]]:
    """Each record that is not blank by the names in the first."""
    filled = ((f"{path}: line {number}", fields) for number, fields in records if fields)
    where, names = next(filled)
    header = [name.strip() for name in names]
    if twice := next((name for name in header if header.count(name) > 1), None):
        raise ValueError(f"{where} names the column {twice} twice.")
    _columns(header, where, labelled)
    for where, fields in filled:
        if len(fields) != len(header):
            raise ValueError(f"{where} has {len(fields)} fields, but the header names {len(header)}.")
        yield where, dict(zip(header, fields, strict=True))


def _example(where: str, row: Mapping[str, Any], labelled: bool) -> Example:
    label, text, pair = _columns(list(row), where, labelled)
    second = _value(row, pair, where) if pair else None
    return Example(_value(row, label, where) if labelled else "", _value(row, text, where), second, where)


def _columns(names: Sequence[str], where: str, labelled: bool) -> tuple[str, str, str | None]:
    """The names of the columns with label, text and, where there is one, the second text."""
    text, pair = ([name for name in aliases if name in names] for aliases in (TEXT, TEXT_PAIR))
    if (labelled and "label" not in names) or not text:
        wanted = "columns label and text_a" if labelled else "column text_a"
        raise ValueError(f"{where} must name the {wanted}, but names {', '.join(names) or 'none'}.")
    if several := next((found for found in (text, pair) if len(found) > 1), None):
        raise ValueError(f"{where} names {' and '.join(several)}, which mean the same; keep one.")
    return "label", text[0], pair[0] if pair else None


def _value(row: Mapping[str, Any], column: str, where: str) -> str:
    value = row[column]
    # A label may be a number; true, null and lists are mistakes.
    if not (isinstance(value, str) or (column == "label" and type(value) is int)):
        raise ValueError(f"{where}: {column} must be a string, but is {value!r:.40}.")
    if stripped := str(value).strip():
        return stripped
    raise ValueError(f"{where} has an empty {column}.")
