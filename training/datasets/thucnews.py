"""THUCNews titles, `label<TAB>title` a line: they come without a split, so each title's own text decides its part."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from training.datasets.tsv import Example
from training.overlap import fingerprint

Part = Literal["train", "dev", "test"]


def part_of(title: str) -> Part:
    """Nine titles in ten are for training, one in twenty for each of dev and test; copies fall into the same part."""
    share = int.from_bytes(hashlib.sha256(fingerprint(title).encode("utf-8")).digest()[:4], "little") / 2**32
    return "test" if share < 0.05 else "dev" if share < 0.1 else "train"


def read_titles(path: Path) -> dict[Part, list[Example]]:
    """All titles by part. Raises ValueError naming file and line for one that is no `label<TAB>title`."""
    parts: dict[Part, list[Example]] = {"train": [], "dev": [], "test": []}
    for number, line in enumerate(_lines(path), start=1):
        label, tab, title = line.partition("\t")
        if not (label and tab and title.strip()):
            raise ValueError(f"{path}: line {number} is not a label, a tab and a title.")
        parts[part_of(title)].append(Example(label, title.strip()))
    return parts


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 at byte {error.start}; convert the file.") from error
