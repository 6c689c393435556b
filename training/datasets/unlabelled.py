"""Unlabelled texts: tables, whose labels are ignored, or files with one text per line."""

from __future__ import annotations

from pathlib import Path

from training.datasets.examples import Example
from training.datasets.table import read_examples
from training.datasets.text_file import read_lines

TABLES = (".tsv", ".csv", ".jsonl")


def read_unlabelled(path: Path) -> list[Example]:
    """Texts, or pairs of texts, with empty labels; in a file that is not a table, each non-blank line is a text.

    Raises ValueError, which names file and line, for missing or invalid values.
    """
    if path.suffix == ".json":
        raise ValueError(
            f"{path}: neither a table ({', '.join(TABLES)}) nor a file with one text per line; convert it first."
        )
    if path.suffix in TABLES:
        return read_examples(path, labelled=False)
    lines = enumerate(read_lines(path), start=1)
    return [Example("", line.strip(), None, f"{path}: line {number}") for number, line in lines if line.strip()]
