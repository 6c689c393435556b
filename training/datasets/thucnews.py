"""THUCNews titles, `label<TAB>title` a line: they come without a split, so each title's own text decides its part."""

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
    """Nine titles in ten are for training, one in twenty for each of dev and test; copies fall into the same part."""
    share = share_of(title)
    return "test" if share < 0.05 else "dev" if share < 0.1 else "train"


def read_titles(path: Path) -> dict[Part, list[Example]]:
    """All titles by part. Raises ValueError naming file and line for one that is no `label<TAB>title`."""
    parts: dict[Part, list[Example]] = {"train": [], "dev": [], "test": []}
    for example in read_labelled(path):
        parts[part_of(example.text)].append(example)
    return parts


def read_labelled(path: Path) -> list[Example]:
    """The titles in the order of the file; raises as `read_titles` does."""
    examples = []
    lines = read_lines(path)
    for number, line in enumerate(lines[: -1 if not lines[-1] else None], start=1):
        label, tab, title = line.partition("\t")
        if not (label and tab and title.strip()):
            raise ValueError(f"{path}: line {number} is not a label, a tab and a title.")
        examples.append(Example(label, title.strip(), where=f"{path}: line {number}"))
    return examples
