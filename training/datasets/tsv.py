"""Labelled texts in tab-separated files with a header line that names the columns, such as `label` and `text_a`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Example:
    """One labelled text."""

    label: str
    text: str


def read_examples(path: Path) -> list[Example]:
    """Rows of a file; raises ValueError naming file and line for a missing column or an empty value.

    The header names the columns `label` and `text_a` (or `text`); fields are separated by tabs and never quoted.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 at byte {error.start}; convert the file.") from error
    header = lines[0].lstrip("\ufeff").rstrip("\r").split("\t")
    text_column = next((name for name in ("text_a", "text") if name in header), None)
    if "label" not in header or text_column is None:
        raise ValueError(f"{path}: line 1 must name the columns label and text_a, but names {', '.join(header)}.")
    label_at, text_at = header.index("label"), header.index(text_column)
    examples = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        fields = line.rstrip("\r").split("\t")
        if len(fields) != len(header):
            raise ValueError(f"{path}: line {number} has {len(fields)} fields, but the header names {len(header)}.")
        label, text = fields[label_at].strip(), fields[text_at].strip()
        if not label or not text:
            raise ValueError(f"{path}: line {number} has an empty {'text' if label else 'label'}.")
        examples.append(Example(label, text))
    if not examples:
        raise ValueError(f"{path}: no example below the header.")
    return examples


def label_names(examples: Sequence[Example]) -> list[str]:
    """The distinct labels, sorted: as numbers where all are numbers."""
    names = {example.label for example in examples}
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else sorted(names)
