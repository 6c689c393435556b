"""Dockerfiles as lists of instructions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))


class Instruction(NamedTuple):
    """One instruction: `word` is COPY, RUN …; `rest` is the text after it, on one line."""

    word: str
    rest: str


def stages(path: Path) -> list[list[Instruction]]:
    """The instructions of each stage, beginning with FROM; those before the first FROM are left out."""
    text = re.sub(r"^#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    found: list[list[Instruction]] = []
    for line in filter(None, lines):
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            found.append([])
        if found:
            found[-1].append(Instruction(word, rest.strip()))
    return found


def of(word: str, stage: list[Instruction]) -> list[str]:
    return [instruction.rest for instruction in stage if instruction.word == word]


def copied(path: Path) -> list[str]:
    """The paths that are copied from the build context."""
    every = [rest.split() for stage in stages(path) for rest in of("COPY", stage) if not rest.startswith("--from")]
    return [source for *sources, _ in every for source in sources]
