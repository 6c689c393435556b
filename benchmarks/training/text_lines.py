"""The lines of a folder of text files, for the comparisons of tokenizers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

LONGEST = 2000
"""Characters of a line that are compared at once; longer lines are cut."""


def lines_of(data: Path) -> Iterator[str]:
    """Every line of the text files below a folder, in pieces of LONGEST characters."""
    for path in sorted(data.rglob("*")):
        if path.suffix in {".txt", ".tsv", ".json", ".md"}:
            for line in path.read_text(encoding="utf-8").split("\n"):
                for start in range(0, len(line), LONGEST):
                    yield line[start : start + LONGEST]
