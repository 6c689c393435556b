"""Plain-text corpora: UTF-8 files in which a blank line ends a document."""

from __future__ import annotations

import hashlib
import logging
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

log = logging.getLogger(__name__)

Document = list[str]
"""The lines of one document, none of them blank."""


# Older newspapers print letters and digits full-width; people type ASCII. Punctuation stays full-width.
_WIDE = re.compile("[０-９Ａ-Ｚａ-ｚ]+")
_PLAIN = {ord(wide): unicodedata.normalize("NFKC", wide) for wide in map(chr, range(0xFF01, 0xFF5F)) if wide.isalnum()}


def normalize(line: str) -> str:
    """`line` stripped, with ASCII letters and digits instead of full-width ones."""
    return _WIDE.sub(lambda wide: wide[0].translate(_PLAIN), line).strip()


def read_documents(path: Path) -> Iterator[Document]:
    """Documents of a file; lines that are not UTF-8 are skipped and counted in one warning."""
    document: Document = []
    broken: list[int] = []
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            try:
                line = normalize(raw.decode("utf-8"))
            except UnicodeDecodeError:
                broken.append(number)
                continue
            if line:
                document.append(line)
            elif document:
                yield document
                document = []
    if document:
        yield document
    if broken:
        log.warning("%s: skipped %d lines that are not UTF-8; the first is line %d", path, len(broken), broken[0])


def read_corpus(paths: Iterable[Path]) -> list[Document]:
    """Documents of several files, in order. Raises ValueError if there are none."""
    files = list(paths)
    documents = [document for path in files for document in read_documents(path)]
    if not documents:
        raise ValueError(
            f"there is no document in {', '.join(map(str, files)) or 'an empty list of files'}; give UTF-8 text."
        )
    return documents


def is_held_out(document: Document, percent: float = 1.0) -> bool:
    """Whether a document belongs to the held-out part. Only its text decides, so it always stays in the same part."""
    digest = hashlib.sha256("\n".join(document).encode("utf-8")).digest()
    return int.from_bytes(digest[:4], "little") < percent / 100 * 2**32
