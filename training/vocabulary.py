"""A character vocabulary with WordPieces for Latin letters and digits, counted from a corpus.

ERNIE's own vocabularies are of this kind: special tokens, CJK characters and punctuation one by one, frequent words of
letters and digits, and `##` pieces from which every other word of plain letters and digits can be put together.
"""

from __future__ import annotations

import os
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from training.datasets.corpus import Document

SPECIAL_TOKENS = ("[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]")
PLAIN = string.digits + string.ascii_lowercase
_WORD = re.compile(r"[a-z0-9]{2,}")


def build_vocabulary(documents: Iterable[Document], size: int, words: int = 600) -> list[str]:
    """At most `size` tokens: specials, plain letters and digits alone and as `##` pieces, at most `words` frequent
    words of them, then every other character by falling frequency. Raises ValueError when `size` is too small.
    """
    fixed = [*SPECIAL_TOKENS, *PLAIN, *(f"##{character}" for character in PLAIN)]
    if size < len(fixed):
        raise ValueError(f"a vocabulary of {size} tokens is too small; it needs at least {len(fixed)}.")
    characters: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for document in documents:
        for line in document:
            # The tokenizer lower-cases and takes accents off; counted is what it will look up.
            text = "".join(c for c in unicodedata.normalize("NFD", line.lower()) if unicodedata.category(c) != "Mn")
            characters.update(text)
            found.update(_WORD.findall(text))
    common = [word for word, count in _by_frequency(found)[:words] if count > 1]
    single = [
        character
        for character, _ in _by_frequency(characters)
        if character not in PLAIN and unicodedata.category(character)[0] not in "CZ"
    ]
    return [*fixed, *common, *single][:size]


def _by_frequency(counts: Counter[str]) -> list[tuple[str, int]]:
    """Falling count, ties in code-point order, so that the same text always gives the same vocabulary."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def write_vocabulary(path: Path, tokens: Iterable[str]) -> None:
    """One token a line; the id of a token is its line's number from 0."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text("".join(token + "\n" for token in tokens), encoding="utf-8")
    os.replace(part, path)
