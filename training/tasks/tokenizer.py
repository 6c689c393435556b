"""Text to token ids for training, with the same tokenizer as in the service."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from model_build.bundle import TokenizerSettings, read_vocabulary
from native import Encoding, ErnieTokenizer

SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]")


class Tokenizer:
    """The tokenizer of a vocabulary file, with the ids of the special tokens."""

    def __init__(self, vocab_path: Path, settings: TokenizerSettings | None = None) -> None:
        """`settings` are those of the model.

        Raises ValueError (BundleError) for a file that is not a vocabulary, or that lacks a special token.
        """
        self.tokens = read_vocabulary(vocab_path)
        how = settings or TokenizerSettings()
        self._tokenizer = ErnieTokenizer(
            self.tokens, lower_case=how.do_lower_case, rules=how.rules, fold_width=how.fold_width
        )
        ids = {token: index for index, token in enumerate(self.tokens)}
        if missing := [name for name in SPECIAL if name not in ids]:
            raise ValueError(f"{vocab_path} has no {' and no '.join(missing)}; give a vocabulary of ERNIE or BERT.")
        self.pad, self.cls, self.sep, self.mask, self.unknown = (ids[name] for name in SPECIAL)
        self.specials = sorted(ids[name] for name in SPECIAL)

    def pieces(self, text: str) -> list[int]:
        """Ids of `text` without special tokens."""
        return self._tokenizer.encode(text, add_special_tokens=False, special_tokens="none").ids

    def encode(
        self, text: str, pair: str | None = None, *, max_length: int | None = None, add_special_tokens: bool = True
    ) -> Encoding:
        """Encodes a text or a pair of texts, cut to `max_length` tokens; of a pair the longer text is cut first."""
        return self._tokenizer.encode(
            text, pair, max_length=max_length, add_special_tokens=add_special_tokens, special_tokens="none"
        )

    def pieces_with_offsets(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Ids uint16 [T] without special tokens, and for each its first character in `text`, int64 [T]."""
        ids, _, starts = self._tokenizer.encode_flat([text])
        return ids.astype(np.uint16), starts.astype(np.int64)


def pad_batch(rows: Sequence[Sequence[int]], pad: int) -> np.ndarray:
    """Rows of ids -> int64 [B, longest row], padded with `pad`."""
    batch = np.full((len(rows), max(map(len, rows))), pad, dtype=np.int64)
    for index, row in enumerate(rows):
        batch[index, : len(row)] = row
    return batch
