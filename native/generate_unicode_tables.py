"""Writes the Unicode tables of the tokenizer as C++, from this interpreter's `unicodedata`. Run by CMake.

    python native/generate_unicode_tables.py build/unicode_tables.h

Every code point has an index into `kCharacters`, by way of `kBlocks` (one entry for 256 code points) and `kIndices`
(blocks that are alike are kept once). Decompositions and small letters lie in `kMappings`; those of Hangul syllables,
which are arithmetic, do not.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable
from pathlib import Path

BLOCK = 256
HANGUL = range(0xAC00, 0xD7A4)
KINDS = ("letter", "control", "space", "mark", "punctuation")


def kind(character: str) -> str:
    """What BERT's tokenizer takes a character for (google-research/bert, tokenization.py, BasicTokenizer)."""
    category = unicodedata.category(character)
    if character in "\t\n\r" or category.startswith("Z"):
        return "space"
    if category.startswith("C") or character == "\ufffd":
        return "control"
    if category.startswith("P") or ("!" <= character <= "~" and not character.isalnum()):
        return "punctuation"
    return "mark" if category == "Mn" else "letter"


class Mappings:
    """Character sequences back to back, each kept once."""

    def __init__(self) -> None:
        self.characters: list[int] = []
        self._places: dict[str, int] = {}

    def place(self, sequence: str) -> int:
        if sequence not in self._places:
            self._places[sequence] = len(self.characters)
            self.characters += map(ord, sequence)
        return self._places[sequence]


def record(code: int, mappings: Mappings) -> tuple[int, ...]:
    """Fields of `Character` in unicode.h; a length of 0 stands for the character itself."""
    character = chr(code)
    decomposed = character if code in HANGUL else unicodedata.normalize("NFD", character)
    fields = [KINDS.index(kind(character)), unicodedata.combining(character)]
    for mapped in (decomposed, character.lower()):
        changed = mapped != character
        fields += [len(mapped), mappings.place(mapped)] if changed else [0, 0]
    return tuple(fields)


def array(declaration: str, values: Iterable[object]) -> str:
    """A C++ array definition, twenty values a line."""
    texts = [str(value) for value in values]
    lines = (", ".join(texts[start : start + 20]) for start in range(0, len(texts), 20))
    return f"constexpr {declaration}[] = {{\n" + ",\n".join(lines) + "};\n"


def tables() -> str:
    """The header's text."""
    mappings = Mappings()
    records: dict[tuple[int, ...], int] = {}
    blocks: dict[tuple[int, ...], int] = {}
    order = []
    for start in range(0, sys.maxunicode + 1, BLOCK):
        block = tuple(records.setdefault(record(code, mappings), len(records)) for code in range(start, start + BLOCK))
        order.append(blocks.setdefault(block, len(blocks)))
    return "".join(
        [
            "// Made by native/generate_unicode_tables.py. Included by unicode.cpp alone.\n",
            f'constexpr char kVersion[] = "{unicodedata.unidata_version}";\n',
            array("char32_t kMappings", mappings.characters),
            array("Character kCharacters", ("{" + ", ".join(map(str, fields)) + "}" for fields in records)),
            array("std::uint16_t kBlocks", order),
            array("std::uint16_t kIndices", (index for block in blocks for index in block)),
        ]
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(tables(), encoding="ascii")
