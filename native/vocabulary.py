"""Vocabulary files: one token on each line, as for ERNIE 1.0, or `token<TAB>id`, as for ERNIE 3.0."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class Vocabulary(NamedTuple):
    """The tokens in the order of their ids, and whether the last line of the file lacks its newline."""

    tokens: list[str]
    missing_final_newline: bool


def read_vocabulary(path: str | os.PathLike[str]) -> Vocabulary:
    """Reads a UTF-8 file, with or without byte order mark, whose line n, from 0, holds the token with id n.

    A token may occur twice. Raises ValueError with the line number if a line is empty or has another id, OSError if the
    file cannot be read. `model_build.bundle.read_vocabulary` follows the same rules, because `model_build` may not
    import this package; a test compares the two.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 at byte {error.start}; save it as UTF-8.") from error
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
