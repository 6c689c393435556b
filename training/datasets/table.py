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


def read_examples(path: Path, *, labelled: bool = True, several: bool = False) -> list[Example]:
    """Rows of a table in the format of its suffix. Other columns and keys are ignored.

    `.tsv` has a header line and tab-separated fields without quotes; `.csv` has a header line and fields quoted as in
    RFC 4180; `.jsonl` has one object per line. `text_a` may also be called text, sentence or sentence1, and `text_b`
    text_pair or sentence2. Values are stripped. If not `labelled`, labels are ignored, and the labels of the examples
    are empty. With `several`, a label may be empty, and a list of labels is joined by NUL characters. Raises
    ValueError, which names file and line, for missing, empty or invalid values.
    """
    if path.suffix == ".jsonl":
        rows: Iterator[tuple[str, Mapping[str, Any]]] = read_json_lines(path)
    elif path.suffix in (".tsv", ".csv"):
        rows = _rows_below_header(
            path, _tab_separated(path) if path.suffix == ".tsv" else _comma_separated(path), labelled
        )
    else:
        raise ValueError(f"{path}: unknown format; give a .tsv, .csv or .jsonl file.")
    examples = [_example(where, row, labelled, several) for where, row in rows]
    if not examples:
        raise ValueError(f"{path}: there is no example below the header.")
    for example in examples:
        if (example.text_pair is None) != (examples[0].text_pair is None):
            raise ValueError(f"{example.where} is {'one text' if example.text_pair is None else 'a pair'}, "
                             f"but the rows before are not; give either all rows a text_b, or no row.")  # fmt: skip
    return examples


def _tab_separated(path: Path) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(read_lines(path), start=1):
        yield number, line.split("\t") if line.strip() else []


def _comma_separated(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Records, each with the number of its first line; a quoted field may contain line ends."""
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
    """Each record that is not blank, as a mapping from the column names of the header."""
    filled = ((f"{path}: line {number}", fields) for number, fields in records if fields)
    where, names = next(filled)
    header = [name.strip() for name in names]
    if twice := next((name for name in header if header.count(name) > 1), None):
        raise ValueError(f"{where} names the column {twice} twice; rename one.")
    _columns(header, where, labelled)
    for where, fields in filled:
        if len(fields) != len(header):
            raise ValueError(f"{where} has {len(fields)} fields, but the header has {len(header)}.")
        yield where, dict(zip(header, fields, strict=True))


def _example(where: str, row: Mapping[str, Any], labelled: bool, several: bool) -> Example:
    label, text, pair = _columns(list(row), where, labelled)
    second = _value(row, pair, where) if pair else None
    if several:
        return Example(_joined(row[label], where), _value(row, text, where), second, where)
    return Example(_value(row, label, where) if labelled else "", _value(row, text, where), second, where)


def _columns(names: Sequence[str], where: str, labelled: bool) -> tuple[str, str, str | None]:
    """The names of the columns with label, text and, if present, second text."""
    text, pair = ([name for name in aliases if name in names] for aliases in (TEXT, TEXT_PAIR))
    label = "labels" if "labels" in names and "label" not in names else "label"
    if (labelled and label not in names) or not text:
        wanted = "columns label and text_a" if labelled else "column text_a"
        raise ValueError(f"{where} must have the {wanted}, but has {', '.join(names) or 'none'}.")
    if several := next((found for found in (text, pair) if len(found) > 1), None):
        raise ValueError(f"{where} has {' and '.join(several)}, which mean the same; keep one.")
    return label, text[0], pair[0] if pair else None


def _joined(value: Any, where: str) -> str:
    """A list of labels joined by NUL characters, which no text file has; a label text as it is."""
    if isinstance(value, list) and all(isinstance(label, str) and label.strip() for label in value):
        return "\x00".join([*value, ""])
    if isinstance(value, str):
        return value.strip()
    raise ValueError(f"{where}: label must be a string or a list of strings, but is {value!r:.40}.")


def _value(row: Mapping[str, Any], column: str, where: str) -> str:
    value = row[column]
    if isinstance(value, list) and column in ("label", "labels"):
        raise ValueError(f"{where} has a list of labels; give --multi-label if a text may have several labels.")
    # A label may be an integer; true, null and lists are errors.
    if not (isinstance(value, str) or (column in ("label", "labels") and type(value) is int)):
        raise ValueError(f"{where}: {column} must be a string, but is {value!r:.40}.")
    if stripped := str(value).strip():
        return stripped
    raise ValueError(f"{where} has an empty {column}.")
