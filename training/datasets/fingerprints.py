"""Texts as they are compared: without what a trivial edit changes."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

_NOT_WORD = re.compile(r"\W+")


def fingerprint(text: str) -> str:
    """`text` without case, width, punctuation and space, so that trivial edits do not hide a copy."""
    return _NOT_WORD.sub("", unicodedata.normalize("NFKC", text).lower())


def fingerprints(texts: Iterable[str]) -> set[str]:
    """Fingerprints of texts; those with no letter or digit are left out."""
    return {mark for text in texts if (mark := fingerprint(text))}


def share_of(text: str) -> float:
    """A number in [0, 1) that follows from the fingerprint alone: a split by it leaves copies in one part."""
    return int.from_bytes(hashlib.sha256(fingerprint(text).encode("utf-8")).digest()[:4], "little") / 2**32
