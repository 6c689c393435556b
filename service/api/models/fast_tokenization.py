"""Text to model input with fast-tokenizer-python, in steps that are short enough for an event loop.

The library holds the GIL and aborts the process on some characters. It is for comparison with the native tokenizer.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

from fast_tokenizer import ErnieFastTokenizer

from model_build.bundle import BundleError, TokenizerSettings
from service.api.models.tokenization import MASK, SPECIAL_TOKENS, Encoding, NativeTokenizer, Spans, Specials, Tokenizer

# The tokenizer holds the GIL. 1,000 characters take about 1.5 ms, and a piece has at most 2,000.
PIECE_CHARACTERS = 1000
# A word always ends at white space, a Chinese character or punctuation. Brackets are not listed, because of [MASK].
_BOUNDARY = re.compile(r"[\s\u3400-\u4dbf\u4e00-\u9fff\u3001-\u3003，。！？；：,.!?;:]")

# fast-tokenizer-python 1.0.2 aborts the process on capital letters whose small letters have more bytes, so it gets the
# small letters. It confuses two private-use characters, which it should drop, with the same capital letters.
_ABORTING = re.compile("[\u023a\u023e\U0010023a\U0010023e]")
# Special tokens that are plain text; the mask is one of them unless it is read as a mask.
_PLAIN = {
    specials: re.compile(rf"\[(?=(?:{'|'.join(token[1:-1] for token in tokens)})\])")
    for specials, tokens in (
        ("none", SPECIAL_TOKENS),
        ("mask", [token for token in SPECIAL_TOKENS if token != MASK]),
    )
}
_WIDE = {code: code - 0xFEE0 for code in map(ord, "０１２３４５６７８９")}
_WIDE |= {code + shift: code + shift - 0xFEE0 for code in range(ord("Ａ"), ord("Ｚ") + 1) for shift in (0, 32)}
_HARMLESS = {"\u023a": "\u2c65", "\u023e": "\u2c66", "\U0010023a": "\U00100000", "\U0010023e": "\U00100000"}


class FastTokenizer(Tokenizer):
    """fast-tokenizer-python's ERNIE tokenizer."""

    def __init__(self, vocab_path: Path, settings: TokenizerSettings) -> None:
        super().__init__(vocab_path)
        if settings.rules != "bert":
            raise BundleError(
                f"{vocab_path.parent}: fast-tokenizer-python does not follow the rules {settings.rules} of this model; "
                "leave out --tokenizer."
            )
        lower = settings.do_lower_case
        self._tokenizer = ErnieFastTokenizer(self.ids, lowercase=lower, strip_accents=lower)
        self._native = NativeTokenizer(vocab_path, settings)
        self._folded = _WIDE if settings.fold_width else {}
        self._cls, self._sep = self.ids["[CLS]"], self.ids["[SEP]"]

    def pieces(self, text: str, specials: Specials = "all") -> list[int]:
        harmless = text if text.isascii() else _ABORTING.sub(lambda found: _HARMLESS[found[0]], text)
        harmless = harmless.translate(self._folded) if self._folded else harmless
        if specials != "all" and "[" in harmless:
            # A bracket is a word, so a space after it changes nothing but the special token.
            harmless = _PLAIN[specials].sub("[ ", harmless)
        return list(self._tokenizer.encode(harmless, add_special_tokens=False).ids)

    def spans(self, text: str, pair: str | None, specials: Specials) -> Spans:
        # The library's offsets are those of the text after the replacements of `pieces`.
        return self._native.spans(text, pair, specials)

    async def pieces_gently(self, text: str, specials: Specials = "all") -> list[int]:
        """`pieces` of a text of any length; yields to the event loop between steps."""
        if len(text) <= PIECE_CHARACTERS:
            return self.pieces(text, specials)
        ids: list[int] = []
        for piece in split(text):
            ids += self.pieces(piece, specials)
            await asyncio.sleep(0)
        return ids

    async def encode(self, text: str, pair: str | None, max_length: int, specials: Specials = "all") -> Encoding:
        first = await self.pieces_gently(text, specials)
        second = await self.pieces_gently(pair, specials) if pair is not None else None
        added = 2 if second is None else 3
        lengths = len(first), len(second or ())
        full_length = len(first) + len(second or ()) + added
        masks = first.count(self.mask_id) + (second or []).count(self.mask_id) if self.mask_id is not None else 0
        if full_length > max_length:
            keep_first, keep_second = shares(len(first), len(second or ()), max_length - added)
            first = first[:keep_first]
            second = second[:keep_second] if second is not None else None
        input_ids = [self._cls, *first, self._sep]
        token_type_ids = [0] * len(input_ids)
        if second is not None:
            input_ids += [*second, self._sep]
            token_type_ids += [1] * (len(second) + 1)
        positions = [column for column, token_id in enumerate(input_ids) if token_id == self.mask_id]
        unknown = input_ids.count(self.unknown_id)
        return Encoding(
            input_ids, token_type_ids, positions, masks, full_length > max_length, full_length, lengths, unknown
        )


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
