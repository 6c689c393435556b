"""Text to model input. The native tokenizer is the default; others have the same interface (`tokenizer_named`)."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from model_build.bundle import BundleError, TokenizerSettings, read_vocabulary
from native import ErnieTokenizer
from service.settings import TokenizerName

MASK = "[MASK]"
SPECIAL_TOKENS = ("[PAD]", "[CLS]", "[SEP]", MASK, "[UNK]")
# The native tokenizer needs 1 to 20 ns per character, so at most 1 ms up to this length. Longer texts use a thread.
LONG_CHARACTERS = 50_000


Specials = Literal["none", "mask", "all"]


class Spans(NamedTuple):
    """The tokens of one text or pair, and where they come from."""

    ids: list[int]
    token_type_ids: list[int]
    offsets: list[tuple[int, int] | None]
    """For each token, start and end of its characters in its text; None for the added [CLS] and [SEP]."""
    unknown: int
    """Number of [UNK] in `ids`."""
    text_lengths: tuple[int, int]
    """Tokens of the text and of its pair (0 without one)."""


class Encoding(msgspec.Struct, frozen=True):
    """Model input of one text or pair: ids with [CLS] and [SEP], token types, and the columns of its masks."""

    input_ids: list[int]
    token_type_ids: list[int]
    mask_positions: list[int]
    masks: int
    """Number of masks in the text, including those that were cut off."""
    truncated: bool
    full_length: int
    """Tokens before truncation, special tokens included."""
    text_lengths: tuple[int, int]
    """Tokens of the text and of its pair (0 without one), before truncation, without [CLS] and [SEP]."""
    unknown: int = 0
    """Number of [UNK] in `input_ids`."""


class Tokenizer(ABC):
    """Tokenizer of one vocabulary."""

    def __init__(self, vocab_path: Path) -> None:
        """Raises BundleError if the vocabulary lacks a special token."""
        self.tokens = read_vocabulary(vocab_path)
        self.ids = {token: index for index, token in enumerate(self.tokens)}
        if missing := [token for token in ("[CLS]", "[SEP]", "[UNK]") if token not in self.ids]:
            raise BundleError(f"{vocab_path}: the vocabulary has no {' and no '.join(missing)}.")
        self.unknown_id = self.ids["[UNK]"]
        self.mask_id = self.ids.get(MASK)
        self.special_ids = {self.ids[token] for token in SPECIAL_TOKENS if token in self.ids}

    @abstractmethod
    def pieces(self, text: str, specials: Specials = "all") -> list[int]:
        """Ids of a short text without special tokens around it.

        `specials`: which special tokens in the text are read as such; the others are plain text.
        """

    @abstractmethod
    async def encode(self, text: str, pair: str | None, max_length: int, specials: Specials = "all") -> Encoding:
        """[CLS] text [SEP] (pair [SEP]), cut to `max_length` from the end of the longer text first.

        `specials` as in `pieces`. Accepts texts of any length; blocks the event loop for a few milliseconds at most.
        """

    @abstractmethod
    def spans(self, text: str, pair: str | None, specials: Specials) -> Spans:
        """[CLS] text [SEP] (pair [SEP]) of short texts, and where in its text each token is."""


class NativeTokenizer(Tokenizer):
    """The tokenizer of `native`, which releases the GIL."""

    def __init__(self, vocab_path: Path, settings: TokenizerSettings) -> None:
        super().__init__(vocab_path)
        self._native = ErnieTokenizer(
            self.tokens, lower_case=settings.do_lower_case, rules=settings.rules, fold_width=settings.fold_width
        )

    def pieces(self, text: str, specials: Specials = "all") -> list[int]:
        return self._native.encode(text, add_special_tokens=False, special_tokens=specials).ids

    async def encode(self, text: str, pair: str | None, max_length: int, specials: Specials = "all") -> Encoding:
        if len(text) + len(pair or "") <= LONG_CHARACTERS:
            return self._encode(text, pair, max_length, specials)
        return await asyncio.to_thread(self._encode, text, pair, max_length, specials)

    def spans(self, text: str, pair: str | None, specials: Specials) -> Spans:
        encoded = self._native.encode(text, pair, special_tokens=specials)
        added = encoded.special_tokens_mask
        offsets = [None if own else span for own, span in zip(added, encoded.offsets, strict=True)]
        return Spans(encoded.ids, encoded.token_type_ids, offsets, encoded.unknown, encoded.text_lengths)

    def _encode(self, text: str, pair: str | None, max_length: int, specials: Specials) -> Encoding:
        encoded = self._native.encode(text, pair, max_length=max_length, special_tokens=specials)
        ids, mask_id = encoded.ids, self.mask_id
        read = mask_id is not None and specials != "none"
        masks = text.count(MASK) + (pair.count(MASK) if pair else 0) if read else 0
        return Encoding(
            input_ids=ids,
            token_type_ids=encoded.token_type_ids,
            mask_positions=[column for column, token_id in enumerate(ids) if token_id == mask_id] if masks else [],
            masks=masks,
            truncated=encoded.truncated,
            full_length=encoded.full_length,
            text_lengths=encoded.text_lengths,
            unknown=encoded.unknown,
        )


def tokenizer_named(name: TokenizerName, vocab_path: Path, settings: TokenizerSettings | None = None) -> Tokenizer:
    """The tokenizer `name` with the settings of a bundle; imports only this one. Raises BundleError."""
    settings = settings or TokenizerSettings()
    if name == "native":
        return NativeTokenizer(vocab_path, settings)
    from service.api.models.fast_tokenization import FastTokenizer

    return FastTokenizer(vocab_path, settings)
