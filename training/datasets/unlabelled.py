"""Texts without labels: tables of which only the text counts, or files with a text on every line."""

from __future__ import annotations

from pathlib import Path

from training.datasets.examples import Example
from training.datasets.table import read_examples
from training.datasets.text_file import read_lines

TABLES = (".tsv", ".csv", ".jsonl")


def read_unlabelled(path: Path) -> list[Example]:
    """Texts, or pairs of them, with empty labels; of a file that is no table, every line that is not blank is one.

    Raises ValueError naming file and line for what is missing or broken.
    """
    if path.suffix == ".json":
        raise ValueError(f"{path}: neither a table ({', '.join(TABLES)}) nor text, one a line; convert it first.")
    if path.suffix in TABLES:
        return read_examples(path, labelled=False)
    lines = enumerate(read_lines(path), start=1)
    return [Example("", line.strip(), None, f"{path}: line {number}") for number, line in lines if line.strip()]
