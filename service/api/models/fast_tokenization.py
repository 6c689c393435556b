"""Text to model input with fast-tokenizer-python, in steps that are short enough for an event loop.

The library holds the GIL and aborts the process on some characters. It is for comparison with the native tokenizer.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

from fast_tokenizer import ErnieFastTokenizer

from service.api.models.tokenization import SPECIAL_TOKENS, Encoding, Tokenizer

# The tokenizer holds the GIL. 1,000 characters take about 1.5 ms, and a piece has at most 2,000.
PIECE_CHARACTERS = 1000
# A word always ends at white space, a Chinese character or punctuation. Brackets are not listed, because of [MASK].
_BOUNDARY = re.compile(r"[\s\u3400-\u4dbf\u4e00-\u9fff\u3001-\u3003，。！？；：,.!?;:]")

# fast-tokenizer-python 1.0.2 aborts the process on capital letters whose small letters have more bytes, so it gets the
# small letters. It confuses two private-use characters, which it should drop, with the same capital letters.
_ABORTING = re.compile("[\u023a\u023e\U0010023a\U0010023e]")
_HARMLESS = {"\u023a": "\u2c65", "\u023e": "\u2c66", "\U0010023a": "\U00100000", "\U0010023e": "\U00100000"}


class FastTokenizer(Tokenizer):
    """fast-tokenizer-python's ERNIE tokenizer."""

    def __init__(self, vocab_path: Path, do_lower_case: bool = True) -> None:
        super().__init__(vocab_path)
        self._tokenizer = ErnieFastTokenizer(self.ids, lowercase=do_lower_case, strip_accents=do_lower_case)
        self._cls, self._sep = self.ids["[CLS]"], self.ids["[SEP]"]

    def pieces(self, text: str) -> list[int]:
        harmless = text if text.isascii() else _ABORTING.sub(lambda found: _HARMLESS[found[0]], text)
        return list(self._tokenizer.encode(harmless, add_special_tokens=False).ids)

    async def pieces_gently(self, text: str) -> list[int]:
        """`pieces` of a text of any length; yields to the event loop between steps."""
        if len(text) <= PIECE_CHARACTERS:
            return self.pieces(text)
        ids: list[int] = []
        for piece in split(text):
            ids += self.pieces(piece)
            await asyncio.sleep(0)
        return ids

    async def encode(self, text: str, pair: str | None, max_length: int) -> Encoding:
        first = await self.pieces_gently(text)
        second = await self.pieces_gently(pair) if pair is not None else None
        specials = 2 if second is None else 3
        full_length = len(first) + len(second or ()) + specials
        masks = first.count(self.mask_id) + (second or []).count(self.mask_id) if self.mask_id is not None else 0
        if full_length > max_length:
            keep_first, keep_second = shares(len(first), len(second or ()), max_length - specials)
            first = first[:keep_first]
            second = second[:keep_second] if second is not None else None
        input_ids = [self._cls, *first, self._sep]
        token_type_ids = [0] * len(input_ids)
        if second is not None:
            input_ids += [*second, self._sep]
            token_type_ids += [1] * (len(second) + 1)
        positions = [column for column, token_id in enumerate(input_ids) if token_id == self.mask_id]
        return Encoding(input_ids, token_type_ids, positions, masks, full_length > max_length, full_length)


def shares(first: int, second: int, room: int) -> tuple[int, int]:
    """The number of tokens that each text of a pair keeps within `room`. The longer text is cut first."""
    keep_second = min(second, max(room - first, room // 2))
    return min(first, room - keep_second), keep_second


def _before_special(text: str, end: int) -> int:
    """`end`, or the start of the special token that a cut at `end` would break."""
    opened = text.rfind("[", end - max(map(len, SPECIAL_TOKENS)) + 1, end)
    broken = opened >= 0 and any(
        text.startswith(token, opened) and end < opened + len(token) for token in SPECIAL_TOKENS
    )
    return opened if broken else end


def split(text: str) -> Iterator[str]:
    """Pieces of about PIECE_CHARACTERS. Their ids, one after the other, are the ids of the text.

    A run of 2 × PIECE_CHARACTERS without a boundary is also cut, but never within a special token: one unknown word
    becomes several.
    """
    start = 0
    while len(text) - start > PIECE_CHARACTERS:
        found = _BOUNDARY.search(text, start + PIECE_CHARACTERS - 1, start + 2 * PIECE_CHARACTERS)
        end = found.end() if found else _before_special(text, min(len(text), start + 2 * PIECE_CHARACTERS))
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]
