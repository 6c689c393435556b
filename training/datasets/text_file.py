"""Reads labelled files as text: UTF-8, with or without byte order mark, with line ends LF or CRLF."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read_text(path: Path) -> str:
    """The whole file. Raises ValueError, which names the line, if it is not UTF-8, and for an empty file."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}: line {line} is not UTF-8 (byte {error.start}); convert the file, "
            "for example with `iconv -f gb18030 -t utf-8`."
        ) from None
    if not text.strip():
        raise ValueError(f"{path}: the file is empty.")
    return text


def read_lines(path: Path) -> list[str]:
    """The lines without line ends; only LF and CRLF end a line."""
    return read_text(path).replace("\r\n", "\n").split("\n")


def read_json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """For each line that is not blank: `PATH: line NUMBER`, and its object. Raises ValueError for another line."""
    for number, line in enumerate(read_lines(path), start=1):
        if line.strip():
            where = f"{path}: line {number}"
            row = parse_json(line, where)
            if not isinstance(row, dict):
                raise ValueError(f"{where} is not a JSON object; write one object {{…}} per line.")
            yield where, row


def parse_json(text: str, where: str) -> Any:
    """The JSON value. Raises ValueError, which begins with `where`, for invalid JSON and for lone surrogates."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if "\n" in text else ""
        raise ValueError(f"{where} is not JSON: {error.msg} ({line}column {error.colno}).") from None
    except RecursionError:
        raise ValueError(f"{where} is not JSON that can be read, because it is nested too deeply.") from None
    if "\\ud" in text.lower():
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError(
                f"{where} has half of a surrogate pair (\\ud8…), which is not a character; remove it."
            ) from None
    return value
