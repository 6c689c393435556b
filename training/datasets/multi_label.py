"""Multi-label examples: tables whose label column, or list in JSON, names any number of labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.datasets.examples import Example, MultiLabelExample
from training.datasets.table import read_examples
from training.datasets.text_file import read_lines

SEPARATOR = ","
SEPARATORS = (SEPARATOR, "，", "、", "|", ";", "；")
"""What files with several labels a text are known to use."""


def read_multi_label(path: Path, separator: str = SEPARATOR) -> list[MultiLabelExample]:
    """Rows of a table of `training.datasets.table`, or of PaddleNLP's `.txt` files: `text<TAB>label,label` without a
    header.

    A label column has labels with `separator` between them; a `.jsonl` may have a list instead. A text may have no
    label. Raises ValueError, which names file and line.
    """
    if path.suffix == ".txt":
        return [_line(f"{path}: line {number}", line, separator) for number, line in _lines(path)]
    return [_split(example, separator) for example in read_examples(path, several=True)]


def check_single(parts: Mapping[str, Sequence[Any]]) -> None:
    """Raises ValueError, which asks for a flag, if the labels of single-label examples look like several labels.

    They do if a label has a separator, and each label between separators also occurs in another label.
    """
    rows = [row for part in parts.values() for row in part if type(row) is Example]
    labels = {row.label for row in rows}
    for separator in SEPARATORS:
        joined = sorted(label for label in labels if separator in label)
        others: dict[str, set[str]] = {}
        for label in labels:
            for piece in label.split(separator):
                others.setdefault(piece.strip(), set()).add(label)
        found = next(
            (each for each in joined if all(len(others[piece.strip()]) > 1 for piece in each.split(separator))), ""
        )
        if found:
            where = next(row.where for row in rows if row.label == found)
            flag = "--multi-label" + (f" --label-separator '{separator}'" if separator != SEPARATOR else "")
            raise ValueError(
                f"{where}: is {found!r} several labels of one text? Then give {flag}; if it is one label, give "
                "--no-multi-label."
            )


def _lines(path: Path) -> list[tuple[int, str]]:
    return [(number, line) for number, line in enumerate(read_lines(path), start=1) if line.strip()]


def _line(where: str, line: str, separator: str) -> MultiLabelExample:
    text, tab, labels = line.partition("\t")
    if not text.strip() or "\t" in labels:
        raise ValueError(f"{where} is not a text, a tab and labels: {line[:40]!r}.")
    return _split(Example(labels.strip() if tab else "", text.strip(), where=where), separator)


def _split(example: Example, separator: str) -> MultiLabelExample:
    labels = [label.strip() for label in example.label.split("\x00" if "\x00" in example.label else separator)]
    labels = [label for label in labels if label]
    fields = {field.name: getattr(example, field.name) for field in dataclasses.fields(Example)}
    return MultiLabelExample(**{**fields, "label": separator.join(labels)}, labels=tuple(dict.fromkeys(labels)))
