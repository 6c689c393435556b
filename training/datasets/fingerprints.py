"""Fingerprints of texts: equal for copies with trivial edits."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable

_NOT_WORD = re.compile(r"\W+")


def fingerprint(text: str) -> str:
    """`text` in lower case, with normal character width, without punctuation and spaces."""
    return _NOT_WORD.sub("", unicodedata.normalize("NFKC", text).lower())


def fingerprints(texts: Iterable[str]) -> set[str]:
    """Fingerprints of texts; texts without a letter or digit are left out."""
    return {mark for text in texts if (mark := fingerprint(text))}


def share_of(text: str) -> float:
    """A number in [0, 1) that depends only on the fingerprint, so a split by it keeps copies in the same part."""
    return int.from_bytes(hashlib.sha256(fingerprint(text).encode("utf-8")).digest()[:4], "little") / 2**32
