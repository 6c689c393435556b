"""Compares the native tokenizer's ids with those of fast-tokenizer-python and Hugging Face `tokenizers`, text by text.

    python -m benchmarks.training.tokenizer_parity --strings 1000000 --data data

Every line of the data's text files is compared with both vocabularies, and so are generated strings, with every setting
of lower-casing and accents. The ids must be equal, except for the known differences of each of the two. These are
described in native/README.md and listed here as sets of characters; `--characters` checks for each of the 1,114,112
code points that there are no others.
"""

from __future__ import annotations

import random
import sys
import time
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from fast_tokenizer import ErnieFastTokenizer
from tokenizers import BertWordPieceTokenizer

from benchmarks.arguments import parser_of
from benchmarks.training.text_lines import lines_of
from native import ErnieTokenizer, unicode_version

SPECIALS = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"]
# Hexadecimal ranges in which Unicode 13 and Unicode 8 make the tokenizer do different things.
LATER_THAN_UNICODE_8 = """
7FD 8D3-8E2 9FD-9FE A76 AFA-AFF B55 C04 C77 C84 D00 D3B-D3C D81 EBA 166D 1885-1886 1ABF-1AC0 1DF6-1DF9 1DFB 2E43-2E4F
2E52 A82C A8C5 A8FF A9BD 10D24-10D27 10EAB-10EAD 10F46-10F50 10F55-10F59 110CD 111C9 111CF 1123E 1133B 11438-1143F
11442-11444 11446 1144B-1144F 1145A-1145B 1145D-1145E 11660-1166C 1182F-11837 11839-1183B 11938 1193B-1193C 1193E
11943-11946 119D4-119D7 119DA-119DB 119E0 119E2 11A01-11A0A 11A33-11A38 11A3B-11A47 11A51-11A56 11A59-11A5B 11A8A-11A96
11A98-11A9C 11A9E-11AA2 11C30-11C36 11C38-11C3D 11C3F 11C41-11C45 11C70-11C71 11C92-11CA7 11CAA-11CB0 11CB2-11CB3
11CB5-11CB6 11D31-11D36 11D3A 11D3C-11D3D 11D3F-11D45 11D47 11D90-11D91 11D95 11D97 11EF3-11EF4 11EF7-11EF8 11FFF
13430-13438 16E97-16E9A 16F4F 16FE2 16FE4 1E000-1E006 1E008-1E018 1E01B-1E021 1E023-1E024 1E026-1E02A 1E130-1E136
1E2EC-1E2EF 1E944-1E94A 1E95E-1E95F
"""


def characters_of(ranges: str) -> set[str]:
    """The characters of ranges written as above."""
    bounds = (part.partition("-") for part in ranges.split())
    return {chr(code) for first, _, last in bounds for code in range(int(first, 16), int(last or first, 16) + 1)}


SURROGATES = characters_of("D800-DFFF")
# Surrogates, and capitals whose small letters take more bytes in UTF-8: fast-tokenizer-python calls abort().
ABORTING = characters_of("23A 23E 10023A 10023E") | SURROGATES
UNASSIGNED = {chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) == "Cn"}
# Characters that each of the two reads differently, or not at all.
FAST_DIFFERS = ABORTING | UNASSIGNED | {"\u1734"}
FAST_DIFFERS |= {chr(0x100000 + ord(character)) for character in FAST_DIFFERS if character < "\U00010000"}
HUGGING_FACE_DIFFERS = SURROGATES | UNASSIGNED | characters_of(LATER_THAN_UNICODE_8) | characters_of("2B820-2B91F")
# Kept characters that canonical ordering may move: `tokenizers` then gives offsets of other characters.
MOVABLE = {
    character
    for character in map(chr, range(sys.maxunicode + 1))
    for part in unicodedata.normalize("NFD", character)
    if unicodedata.combining(part) and unicodedata.category(part) != "Mn"
}
# Private use as fast-tokenizer-python reads it: its UTF-8 decoder loses a bit.
_PLANE_16 = {code: code - 0x100000 for code in range(0x100000, 0x110000)}


class Trio:
    """The three tokenizers with the same tokens and the same settings."""

    def __init__(self, tokens: Sequence[str], *, lower_case: bool = True, strip_accents: bool = True) -> None:
        ids = {token: index for index, token in enumerate(tokens)}
        self.dots_are_lost = lower_case and not strip_accents
        self.native = ErnieTokenizer(tokens, lower_case=lower_case, strip_accents=strip_accents)
        self.fast = ErnieFastTokenizer(ids, lowercase=lower_case, strip_accents=strip_accents)
        self.hugging_face = BertWordPieceTokenizer(ids, lowercase=lower_case, strip_accents=strip_accents)

    def equals_fast(self, text: str) -> bool:
        """Whether fast-tokenizer-python gives the expected ids; `text` must not contain characters of ABORTING."""
        expected = text.translate(_PLANE_16) if text and max(text) >= "\U00100000" else text
        if self.dots_are_lost:
            expected = expected.replace("\u0130", "i")
        return list(self.fast.encode(text).ids) == self.native.encode(expected).ids

    def equals_hugging_face(self, text: str) -> bool:
        """Whether `tokenizers` gives the same ids and offsets; `text` holds no surrogate."""
        ours, theirs = self.native.encode(text), self.hugging_face.encode(text)
        return theirs.ids == ours.ids and (theirs.offsets == ours.offsets or not MOVABLE.isdisjoint(text))


class Tally:
    """The number of texts compared with each of the two, and those with a difference."""

    def __init__(self) -> None:
        self.compared = {"fast-tokenizer-python": 0, "tokenizers": 0}
        self.unequal: list[tuple[str, str]] = []

    def compare(self, trio: Trio, text: str) -> None:
        """Compares a text with each of the two, unless it has a character with a known difference."""
        for name, differs, equals in (
            ("fast-tokenizer-python", FAST_DIFFERS, trio.equals_fast),
            ("tokenizers", HUGGING_FACE_DIFFERS, trio.equals_hugging_face),
        ):
            if text.isascii() or differs.isdisjoint(text):
                self.compared[name] += 1
                if not equals(text):
                    self.unequal.append((name, text))

    def __str__(self) -> str:
        counts = ", ".join(f"{count:,} with {name}" for name, count in self.compared.items())
        return f"compared {counts}: {len(self.unequal):,} differ"


def rich_vocabulary(seed: int = 0) -> list[str]:
    """Specials, every assigned character of the first plane, alone and as a continuation, and pieces of several."""
    rng = random.Random(seed)
    usual = [chr(code) for code in range(0x10000) if unicodedata.category(chr(code))[0] not in "CZ"]
    small = [character for character in usual if character.islower()]
    longer = {"".join(rng.choices(small, k=rng.randint(2, 4))) for _ in range(20_000)}
    latin = {"".join(rng.choices("abeinot'", k=rng.randint(2, 4))) for _ in range(2_000)}
    entries = [*usual, *sorted(longer | latin)]
    return list(dict.fromkeys([*SPECIALS, *entries, *(f"##{entry}" for entry in entries)]))


class Strings:
    """Random texts: words of a vocabulary, scripts, marks, white space, controls, special tokens, any code."""

    def __init__(self, tokens: Sequence[str], seed: int) -> None:
        self._rng = random.Random(seed)
        self._words = [token.removeprefix("##") for token in tokens]
        unknown = UNASSIGNED | SURROGATES
        known = [chr(code) for code in range(sys.maxunicode + 1) if chr(code) not in unknown]
        by_class: dict[str, list[str]] = {}
        for character in known:
            by_class.setdefault(unicodedata.category(character)[0], []).append(character)
        self._pools = [
            *by_class.values(),
            [character for character in known if unicodedata.combining(character)],
            [character for character in known if unicodedata.normalize("NFD", character) != character],
            [character for character in known if character.lower() != character],
            sorted(MOVABLE),
            [chr(code) for code in range(0x250)],
            [chr(code) for code in range(0x4E00, 0xA000)],
            [chr(code) for code in range(sys.maxunicode + 1)],
            list(" \t\n\r\0\v\f\x85\xa0\xad\u3000\u200b\u200d\u2028\ufeff\ufffd\u0130\u03a3\ufdfa\u1e9e\u212b"),
        ]
        self._marks = [*SPECIALS, "[mask]", "[MASK", "MASK]", "[[MASK]]", "[ MASK]", "[UNK", "##", "[", "]"]

    def _part(self) -> str:
        rng = self._rng
        kind = rng.random()
        if kind < 0.3:
            return rng.choice(self._words)
        if kind < 0.4:
            return rng.choice(self._marks)
        if kind < 0.42:
            return rng.choice("aé好") * rng.randint(95, 105)
        return "".join(rng.choices(rng.choice(self._pools), k=rng.randint(1, 4)))

    def take(self, count: int) -> Iterator[str]:
        """`count` texts of up to eight parts."""
        for _ in range(count):
            yield "".join(self._part() for _ in range(self._rng.randint(1, 8)))


def character_differences(trio: Trio, characters: Sequence[str]) -> tuple[set[str], set[str]]:
    """Those on which fast-tokenizer-python differs, and those on which `tokenizers` does, between two letters."""
    fast = {each for each in characters if each not in ABORTING and not trio.equals_fast(f"x{each}y")}
    hugging_face = {each for each in characters if each not in SURROGATES and not trio.equals_hugging_face(f"x{each}y")}
    return fast, hugging_face


def report_characters() -> bool:
    """Compares every code point alone; returns whether all differences are in the sets above."""
    known = [chr(code) for code in range(sys.maxunicode + 1) if chr(code) not in SURROGATES]
    right = True
    for lower_case, strip_accents in ((True, True), (False, False)):
        tokens = [*SPECIALS, *known, *(f"##{character}" for character in known)]
        trio = Trio(tokens, lower_case=lower_case, strip_accents=strip_accents)
        fast, hugging_face = character_differences(trio, known)
        print(
            f"lower_case={lower_case}, strip_accents={strip_accents}: of {len(known):,} characters, "
            f"fast-tokenizer-python differs on {len(fast):,}, {len(fast - FAST_DIFFERS):,} of them not stated; "
            f"tokenizers on {len(hugging_face):,}, {len(hugging_face - HUGGING_FACE_DIFFERS):,} of them not stated",
            flush=True,
        )
        right &= fast <= FAST_DIFFERS and hugging_face <= HUGGING_FACE_DIFFERS
    return right


def report(what: str, tally: Tally, begun: float) -> bool:
    """Prints the counts and the first differences; returns whether there are none."""
    print(f"{what}: {tally} ({time.monotonic() - begun:.0f} s)", flush=True)
    for name, text in tally.unequal[:5]:
        print(f"  {name}: {text!a}")
    return not tally.unequal


def main() -> None:
    """Runs the comparisons; ends with status 1 where there is an unknown difference."""
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of text files, with vocab/")
    parser.add_argument("--strings", type=int, default=1_000_000, help="generated strings (default: 1,000,000)")
    parser.add_argument("--seed", type=int, default=0, help="of the generated strings (default: 0)")
    parser.add_argument("--characters", action="store_true", help="also compare every code point alone")
    arguments = parser.parse_args()
    if unicode_version() != "13.0.0":
        parser.error(f"the differences are stated for Unicode 13.0.0, but the tables are {unicode_version()}.")
    real = {
        name: ErnieTokenizer.from_file(arguments.data / "vocab" / f"{name}.vocab.txt").tokens
        for name in ("ernie-1.0", "ernie-3.0")
    }
    right = True
    for name, tokens in {**real, "rich": rich_vocabulary()}.items():
        strings = Strings(tokens, arguments.seed)
        for lower_case, strip_accents in ((True, True), (True, False), (False, True), (False, False)):
            trio = Trio(tokens, lower_case=lower_case, strip_accents=strip_accents)
            begun, tally = time.monotonic(), Tally()
            settings = f"{name} vocabulary, lower_case={lower_case}, strip_accents={strip_accents}"
            for text in strings.take(-(-arguments.strings // 12)):
                tally.compare(trio, text)
            right &= report(f"generated strings, {settings}", tally, begun)
            if name in real and lower_case and strip_accents:
                begun, tally = time.monotonic(), Tally()
                for line in lines_of(arguments.data):
                    tally.compare(trio, line)
                right &= report(f"lines of {arguments.data}, {settings}", tally, begun)
    if arguments.characters:
        right &= report_characters()
    sys.exit(not right)


if __name__ == "__main__":
    main()
