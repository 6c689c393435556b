"""THUCNews titles, one `label<TAB>title` per line; the set has no split, so the text of a title decides its part."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from training.datasets.examples import Example
from training.datasets.fingerprints import share_of
from training.datasets.text_file import read_lines

Part = Literal["train", "dev", "test"]

FILES = ("train.txt",)


def read(folder: Path) -> dict[str, list[Example]]:
    """train, dev and test of the one file in `folder`."""
    return {part: titles for part, titles in read_titles(folder / FILES[0]).items()}


def part_of(title: str) -> Part:
    """train for nine titles in ten, dev and test for one in twenty each; copies are in the same part."""
    share = share_of(title)
    return "test" if share < 0.05 else "dev" if share < 0.1 else "train"


def read_titles(path: Path) -> dict[Part, list[Example]]:
    """All titles by part. Raises ValueError, which names file and line, for a line that is not `label<TAB>title`."""
    parts: dict[Part, list[Example]] = {"train": [], "dev": [], "test": []}
    for example in read_labelled(path):
        parts[part_of(example.text)].append(example)
    return parts


def read_labelled(path: Path) -> list[Example]:
    """The titles in the order of the file. Raises ValueError like `read_titles`."""
    examples = []
    lines = read_lines(path)
    for number, line in enumerate(lines[: -1 if not lines[-1] else None], start=1):
        label, tab, title = line.partition("\t")
        if not (label and tab and title.strip()):
            raise ValueError(f"{path}: line {number} is not a label, a tab and a title.")
        examples.append(Example(label, title.strip(), where=f"{path}: line {number}"))
    return examples
