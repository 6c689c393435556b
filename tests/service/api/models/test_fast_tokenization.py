"""fast-tokenizer-python beside the native tokenizer: the same encodings, and texts cut where no token goes on."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip(
    "fast_tokenizer", reason="fast-tokenizer-python has no wheel for this Python; Python 3.10 runs this"
)

from model_build.bundle import TokenizerSettings
from service.api.models.fast_tokenization import PIECE_CHARACTERS, FastTokenizer, shares, split
from service.api.models.tokenization import MASK, NativeTokenizer
from tests.service.api.models.test_tokenization import VOCABULARY, texts
from tests.service.stand_in import CHARACTERS


@pytest.fixture(scope="module")
def vocab_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    path.write_text("\n".join(VOCABULARY), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def native(vocab_path: Path) -> NativeTokenizer:
    return NativeTokenizer(vocab_path, TokenizerSettings())


@pytest.fixture(scope="module")
def fast(vocab_path: Path) -> FastTokenizer:
    return FastTokenizer(vocab_path, TokenizerSettings())


@settings(deadline=None)
@given(text=texts, pair=st.none() | texts, max_length=st.integers(3, 20))
async def test_both_tokenizers_give_the_same_encoding(
    native: NativeTokenizer, fast: FastTokenizer, text: str, pair: str | None, max_length: int
) -> None:
    assert await native.encode(text, pair, max_length) == await fast.encode(text, pair, max_length)


@settings(deadline=None, max_examples=50)
@given(parts=st.lists(st.sampled_from([CHARACTERS, "okay today ", MASK, "12.3", "É"]), min_size=1, max_size=8))
def test_a_long_text_has_the_same_ids_in_pieces_as_whole(fast: FastTokenizer, parts: list[str]) -> None:
    text = "".join(parts) * 60
    pieces = list(split(text))
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= 2 * PIECE_CHARACTERS
    assert [token for piece in pieces for token in fast.pieces(piece)] == fast.pieces(text)


@pytest.mark.parametrize("before", range(2 * PIECE_CHARACTERS - 8, 2 * PIECE_CHARACTERS + 2))
def test_no_cut_falls_within_a_mask_even_where_no_word_ends(before: int) -> None:
    pieces = list(split("a" * before + MASK + "a" * 50))
    assert sum(piece.count(MASK) for piece in pieces) == 1
    assert max(map(len, pieces)) <= 2 * PIECE_CHARACTERS


def test_a_text_of_brackets_alone_is_cut_too() -> None:
    for text in ("[" * 9000, MASK * 1500, "a" * 9000):
        assert "".join(split(text)) == text
        assert all(split(text))


@given(first=st.integers(0, 99), second=st.integers(0, 99), room=st.integers(0, 99))
def test_truncation_takes_from_the_longer_text_first_and_fills_the_room(first: int, second: int, room: int) -> None:
    keep_first, keep_second = shares(first, second, room)
    assert keep_first + keep_second == min(first + second, room)
    assert 0 <= keep_first <= first
    assert 0 <= keep_second <= second
    if keep_first < first:
        assert keep_first + 1 >= keep_second
    if keep_second < second:
        assert keep_second + 1 >= keep_first
