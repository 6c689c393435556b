import os
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

def version() -> str:
    """Version of the distribution this extension was built from."""

def unicode_version() -> str:
    """Version of the Unicode tables: `unicodedata.unidata_version` of the interpreter that built the extension."""

Truncation: TypeAlias = Literal["longest_first", "only_first", "only_second", "none"]
Ids: TypeAlias = npt.NDArray[np.int64] | npt.NDArray[np.int32]

class Encoding:
    """Tokens of one text or pair: [CLS] text [SEP] (pair [SEP]). Lists are made anew each time they are asked for."""

    @property
    def ids(self) -> list[int]: ...
    @property
    def token_type_ids(self) -> list[int]:
        """1 for the pair and the [SEP] after it, else 0."""
    @property
    def offsets(self) -> list[tuple[int, int]]:
        """Characters of the original text, or of the pair, that each token comes from; (0, 0) for added tokens."""
    @property
    def special_tokens_mask(self) -> list[int]:
        """1 for tokens that were added; a [MASK] that stands in the text is none of them."""
    @property
    def full_length(self) -> int:
        """Tokens before truncation, added ones included."""
    @property
    def overflow(self) -> int:
        """Tokens that truncation took away."""
    @property
    def truncated(self) -> bool: ...
    def __len__(self) -> int: ...

class PaddedBatch:
    """Rows [B, S] of the dtype asked for, and lengths [B]."""

    @property
    def input_ids(self) -> Ids:
        """[B, S], filled up with the id of [PAD]."""
    @property
    def token_type_ids(self) -> Ids:
        """[B, S], 0 where filled up."""
    @property
    def attention_mask(self) -> Ids:
        """[B, S], 1 for tokens and 0 where filled up."""
    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """[B], tokens of each row."""
    @property
    def full_lengths(self) -> npt.NDArray[np.int64]:
        """[B], tokens of each row before truncation."""

class ErnieTokenizer:
    """WordPiece tokenizer of ERNIE and BERT vocabularies: clean, split, strip accents, lower, longest pieces first.

    Constant after construction: threads may share one, and the interpreter's lock is released for texts that take a
    while. It can be pickled. What it does with each character, and where the well-known implementations of BERT's
    tokenizer differ from one another, is told in native/README.md.
    """

    def __init__(
        self,
        tokens: Sequence[str],
        *,
        lower_case: bool = True,
        strip_accents: bool | None = None,
        split_cjk: bool = True,
    ) -> None:
        """A token's id is its place in `tokens`; the last one counts of a token that stands several times.

        `strip_accents` None takes the value of `lower_case`. Raises ValueError for an empty token and where [CLS],
        [SEP] or [UNK] is missing, TypeError for what is no sequence of str.
        """
    @staticmethod
    def from_file(
        path: str | os.PathLike[str],
        *,
        lower_case: bool = True,
        strip_accents: bool | None = None,
        split_cjk: bool = True,
    ) -> ErnieTokenizer:
        """Reads lines `token` or `token<TAB>id`; raises ValueError that names file and line, or OSError."""
    def encode(
        self,
        text: str,
        pair: str | None = None,
        *,
        add_special_tokens: bool = True,
        max_length: int | None = None,
        truncation: Truncation = "longest_first",
    ) -> Encoding:
        """Encodes a text or a pair; special tokens that are written out in the text become their ids.

        `longest_first` cuts the longer text down to the other's length, then both in turn, the second first, as
        PaddleNLP does; `none` cuts nothing. Raises ValueError where `max_length` cannot be kept.
        """
    def encode_batch(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        add_special_tokens: bool = True,
        max_length: int | None = None,
        truncation: Truncation = "longest_first",
        padding: Literal["longest", "max_length"] = "longest",
        pad_to_multiple_of: int | None = None,
        dtype: Any = "int64",
    ) -> PaddedBatch:
        """Encodes texts, or pairs, into arrays of equal rows; `dtype` is int64 or int32.

        Rows are as long as the longest, and where `padding` says so at least `max_length`. Raises ValueError as
        `encode` does, where there are not as many pairs as texts, and where a row has to be filled up without a [PAD].
        """
    def encode_flat(
        self, texts: Sequence[str], *, special_tokens: bool = False
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """Ids [T] of all texts back to back, row splits [B + 1], and the character of its text each begins at [T].

        There is no [CLS] and no [SEP]; "[MASK]" and the like in a text are brackets and letters unless
        `special_tokens` is true. Text i has the ids from splits[i] to splits[i + 1].
        """
    def token_to_id(self, token: str) -> int | None: ...
    def id_to_token(self, id: int) -> str:
        """Raises IndexError where there is no such id."""
    def __len__(self) -> int:
        """Tokens of the vocabulary."""
    @property
    def tokens(self) -> list[str]:
        """All tokens in id order, in a new list."""
    @property
    def vocab_size(self) -> int: ...
    @property
    def duplicates(self) -> int:
        """Entries whose token stands again further down, so that no text gets their id."""
    @property
    def missing_final_newline(self) -> bool:
        """Whether the last line of the vocabulary file had no newline."""
    @property
    def pad_id(self) -> int | None: ...
    @property
    def mask_id(self) -> int | None: ...
    @property
    def cls_id(self) -> int: ...
    @property
    def sep_id(self) -> int: ...
    @property
    def unk_id(self) -> int: ...
    @property
    def lower_case(self) -> bool: ...
    @property
    def strip_accents(self) -> bool: ...
    @property
    def split_cjk(self) -> bool: ...
