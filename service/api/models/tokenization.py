"""Text to model input. The native tokenizer is the default; others have the same interface (`tokenizer_named`)."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from pathlib import Path

import msgspec

from model_build.bundle import BundleError, read_vocabulary
from native import ErnieTokenizer
from service.settings import TokenizerName

MASK = "[MASK]"
SPECIAL_TOKENS = ("[PAD]", "[CLS]", "[SEP]", MASK, "[UNK]")
# The native tokenizer needs 1 to 20 ns per character, so at most 1 ms up to this length. Longer texts use a thread.
LONG_CHARACTERS = 50_000


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
    def pieces(self, text: str) -> list[int]:
        """Ids of a short text without special tokens around it."""

    @abstractmethod
    async def encode(self, text: str, pair: str | None, max_length: int) -> Encoding:
        """[CLS] text [SEP] (pair [SEP]), cut to `max_length` from the end of the longer text first.

        Accepts texts of any length; blocks the event loop for a few milliseconds at most.
        """


class NativeTokenizer(Tokenizer):
    """The tokenizer of `native`, which releases the GIL."""

    def __init__(self, vocab_path: Path, do_lower_case: bool = True) -> None:
        super().__init__(vocab_path)
        self._native = ErnieTokenizer(self.tokens, lower_case=do_lower_case)

    def pieces(self, text: str) -> list[int]:
        return self._native.encode(text, add_special_tokens=False).ids

    async def encode(self, text: str, pair: str | None, max_length: int) -> Encoding:
        if len(text) + len(pair or "") <= LONG_CHARACTERS:
            return self._encode(text, pair, max_length)
        return await asyncio.to_thread(self._encode, text, pair, max_length)

    def _encode(self, text: str, pair: str | None, max_length: int) -> Encoding:
        encoded = self._native.encode(text, pair, max_length=max_length)
        ids, mask_id = encoded.ids, self.mask_id
        masks = 0 if mask_id is None else text.count(MASK) + (pair.count(MASK) if pair else 0)
        return Encoding(
            input_ids=ids,
            token_type_ids=encoded.token_type_ids,
            mask_positions=[column for column, token_id in enumerate(ids) if token_id == mask_id] if masks else [],
            masks=masks,
            truncated=encoded.truncated,
            full_length=encoded.full_length,
        )


def tokenizer_named(name: TokenizerName, vocab_path: Path, do_lower_case: bool = True) -> Tokenizer:
    """The tokenizer of the settings; imports only this one. Raises BundleError."""
    if name == "native":
        return NativeTokenizer(vocab_path, do_lower_case)
    from service.api.models.fast_tokenization import FastTokenizer

    return FastTokenizer(vocab_path, do_lower_case)
