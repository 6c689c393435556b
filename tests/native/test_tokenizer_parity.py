"""Ids compared with two well-known tokenizers: they differ only where benchmarks.training.tokenizer_parity says so.

The full comparison, a million strings and all of the data, is `python -m benchmarks.training.tokenizer_parity`.
"""

import itertools
from pathlib import Path

import pytest

pytest.importorskip(
    "fast_tokenizer", reason="fast-tokenizer-python has no wheel for this Python; Python 3.10 runs this"
)

from benchmarks.training.text_lines import lines_of
from benchmarks.training.tokenizer_parity import (
    ABORTING,
    FAST_DIFFERS,
    HUGGING_FACE_DIFFERS,
    LATER_THAN_UNICODE_8,
    MOVABLE,
    SPECIALS,
    SURROGATES,
    UNASSIGNED,
    Strings,
    Tally,
    Trio,
    character_differences,
    characters_of,
    rich_vocabulary,
)
from native import ErnieTokenizer, unicode_version

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
pytestmark = pytest.mark.skipif(unicode_version() != "13.0.0", reason="the differences are stated for Unicode 13.0.0")


@pytest.fixture(scope="module")
def rich() -> list[str]:
    return rich_vocabulary()


@pytest.fixture(scope="module")
def strings(rich: list[str]) -> Strings:
    return Strings(rich, seed=10)


@pytest.mark.parametrize(("lower_case", "strip_accents"), [(True, True), (True, False), (False, True), (False, False)])
def test_generated_strings_have_the_ids_of_both_references(
    rich: list[str], strings: Strings, lower_case: bool, strip_accents: bool
) -> None:
    trio, tally = Trio(rich, lower_case=lower_case, strip_accents=strip_accents), Tally()
    for text in strings.take(6000):
        tally.compare(trio, text)
    assert min(tally.compared.values()) > 3000
    assert not tally.unequal


@pytest.mark.skipif(not DATA.is_dir(), reason=f"the published data sets are missing; put them into {DATA}")
@pytest.mark.parametrize("name", ["ernie-1.0", "ernie-3.0"])
def test_lines_of_real_text_have_the_ids_of_both_references(name: str) -> None:
    tokens = ErnieTokenizer.from_file(DATA / "vocab" / f"{name}.vocab.txt").tokens
    trio, tally = Trio(tokens), Tally()
    for line in itertools.islice(lines_of(DATA), 0, None, 397):
        tally.compare(trio, line)
    assert min(tally.compared.values()) > 2000
    assert not tally.unequal


def vocabulary_of(characters: list[str]) -> list[str]:
    """A vocabulary in which different results for these characters have different ids."""
    known = sorted({*characters, *"xyiabcdefghijklmnopqrstuvwz"})
    return [*SPECIALS, *known, *(f"##{character}" for character in known)]


def test_every_listed_difference_from_tokenizers_occurs() -> None:
    stated = sorted(characters_of(LATER_THAN_UNICODE_8) | characters_of("2B820-2B91F")) + sorted(UNASSIGNED)[::200]
    seen: set[str] = set()
    for strip in (True, False):
        trio = Trio(vocabulary_of(stated), lower_case=strip, strip_accents=strip)
        seen |= character_differences(trio, stated)[1]
    assert seen == set(stated)


def test_fast_tokenizer_differs_only_on_unassigned_characters_and_on_one_old_mark() -> None:
    later = [character for character in sorted(UNASSIGNED) if character < "\U00020000"]
    trio = Trio(vocabulary_of([*later, "\u1734"]))
    fast, _ = character_differences(trio, [*later, "\u1734"])
    assert "\u1734" in fast
    assert len(fast) == 719  # letters and punctuation of the later Unicode version it was built with


def test_fast_tokenizer_reads_private_use_of_plane_16_as_the_first_plane() -> None:
    trio = Trio(vocabulary_of(["今", "é", "！"]))
    for private, read in (("\U00104eca", "今"), ("\U0010ff01", "！"), ("\U00100020", " ")):
        assert list(trio.fast.encode(f"x{private}y").ids) == trio.native.encode(f"x{read}y").ids
        assert trio.hugging_face.encode(f"x{private}y").ids == trio.native.encode("xy").ids


def test_a_dotted_capital_i_keeps_its_dot_if_accents_are_kept() -> None:
    trio = Trio([*vocabulary_of([]), "##\u0307"], strip_accents=False)
    ours = trio.native.encode("\u0130").ids
    assert ours == trio.hugging_face.encode("\u0130").ids == trio.native.encode("i\u0307").ids
    assert list(trio.fast.encode("\u0130").ids) == trio.native.encode("i").ids


def test_characters_that_the_references_cannot_read_are_dropped_or_lowered() -> None:
    small = {"\u023a": "\u2c65", "\u023e": "\u2c66"}
    trio = Trio(vocabulary_of(list(small.values())))
    for character in sorted(ABORTING):
        expected = trio.native.encode(f"x{small.get(character, '')}y").ids
        assert trio.native.encode(f"x{character}y").ids == expected
        if character not in SURROGATES:
            assert trio.hugging_face.encode(f"x{character}y").ids == expected


def test_offsets_of_almost_all_characters_are_compared() -> None:
    """The comparison skips only texts with a kept mark that may be reordered."""
    assert len(MOVABLE) < 60
    assert not MOVABLE & set(map(chr, range(0x300)))


def test_the_exceptions_do_not_include_ordinary_text() -> None:
    ordinary = set(map(chr, [*range(0x21, 0x7F), *range(0xA0, 0x23A), *range(0x3000, 0x3097), *range(0x4E00, 0x9FFD)]))
    assert not ordinary & (FAST_DIFFERS | HUGGING_FACE_DIFFERS) - {"\u3040"}
