"""Vocabulary files: one token a line, as ERNIE 1.0 has them, or `token<TAB>id`, as ERNIE 3.0 has them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class Vocabulary(NamedTuple):
    """Tokens in id order, and whether the file's last line lacks its newline."""

    tokens: list[str]
    missing_final_newline: bool


def read_vocabulary(path: str | os.PathLike[str]) -> Vocabulary:
    """Reads a UTF-8 file whose line n, from 0, holds the token with id n.

    Tokens may stand twice. Raises ValueError naming the line for an empty one or another id. The rule is that of
    `model_build.bundle.read_vocabulary`, which may not import this room; a test holds the two together.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 at byte {error.start}.") from error
    missing_final_newline = lines[-1] != ""
    if not missing_final_newline:
        lines.pop()
    tokens = []
    for number, line in enumerate(lines):
        token, tab, written_id = line.partition("\t")
        if not token or (tab and written_id != str(number)):
            raise ValueError(f"{path}: line {number + 1} must hold the token with id {number}, but is {line!r}.")
        tokens.append(token)
    return Vocabulary(tokens, missing_final_newline)
