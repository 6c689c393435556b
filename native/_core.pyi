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

MAX_BLENDING_PERIOD: int
"""What the weights of a `Blending` may add up to."""

def philox4x32(counter: Sequence[int], key: Sequence[int]) -> list[int]:
    """One block of Philox4x32-10: four words of counter and two of key, all of 32 bits -> four words.

    Source: J. K. Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC'11.
    """

def build_sample_map(
    offsets: np.ndarray,
    documents: np.ndarray,
    *,
    tokens: int,
    first: int,
    last: int,
    window: int,
    short_seq_prob: float,
    pairs: bool,
    seed: int,
) -> tuple[np.ndarray, dict[str, int]]:
    """The samples of the documents first … last - 1, in order: rows int64 [n, 2], and counts of what was met.

    offsets int64 [sentences + 1] and documents int64 [D + 1] as in `IndexedCorpus`; `tokens` is the corpus's length.
    A row's words are begin, and length | target << 32 | pair << 48, little-endian
    (`training.pretraining.sample_order.SAMPLE`).

    A sample takes whole sentences of a document until it holds its target: `window` tokens, or, with probability
    short_seq_prob, uniformly 2 … window. With `pairs` it takes at least two, and never leaves one alone at the end.
    A sentence longer than the window is cut into windows, samples of their own; its rest begins the next sample.
    Counts: samples, pairs, empty_documents, single_sentence_documents, cut_sentences.
    Draws are keyed by (seed, document). Raises TypeError for another dtype or shape, ValueError for a damaged index.
    """

def permute(positions: np.ndarray, *, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """positions int64 [n] of an endless run over `size` rows -> epochs int64 [n] and rows int64 [n].

    Every epoch holds each row once, in an order keyed by (seed, epoch). O(1) memory: a Feistel network, walked along
    its cycle (J. Black, P. Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002).
    """

class Blending:
    """Weighted mixing of corpora with random access (R. Tijdeman, "The chairman assignment problem", 1980)."""

    period: int

    def __init__(self, weights: Sequence[int]) -> None:
        """Whole-number weights, each at least 1, together at most MAX_BLENDING_PERIOD; raises ValueError otherwise."""
    def at(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """positions int64 [n] -> corpus int32 [n] and how many of its samples came before, int64 [n]."""

class BatchMaker:
    """Makes batches for masked-LM pretraining; thread-safe, releases the GIL. See training/README.md for the rules."""

    def __init__(
        self,
        corpora: Sequence[tuple[np.ndarray, np.ndarray | None, np.ndarray, int]],
        *,
        vocab_size: int,
        cls_id: int,
        sep_id: int,
        mask_id: int,
        pad_id: int,
        continuation: np.ndarray,
        ordinary_ids: np.ndarray,
        levels: np.ndarray,
        max_seq_length: int,
        masked_lm_prob: float,
        max_ngrams: int,
        sentence_order: bool,
        mask_share: float,
        random_share: float,
        replace_whole_units: bool,
        pad_multiple: int,
        pack: bool,
    ) -> None:
        """corpora: tokens uint16|int32 [T], boundaries uint8 [T] or None, offsets int64 [n + 1], and a seed each.

        continuation bool [vocab_size] marks `##` pieces; ordinary_ids int32 [k] are what random replacements are drawn
        from; levels float64 [epochs, 4] are the shares of samples masked by character, word, phrase and entity, the
        last row being that of all later epochs. Raises TypeError for another dtype or shape, ValueError for settings
        that contradict each other.
        """
    def capacity(self, samples: int) -> int:
        """int64 entries that `out` needs for a batch of so many samples."""
    def make(
        self,
        corpora: np.ndarray,
        rows: np.ndarray,
        epochs: np.ndarray,
        samples: np.ndarray,
        out: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """One batch of n samples in R rows of S tokens (R = n unless packed), as int64 arrays.

        corpora int32 [n]; rows int64 [n, 2] from `build_sample_map`; epochs and samples int64 [n] key the draws.
        Gives input_ids and token_type_ids [R, S], packed also position_ids and segment_ids (0 is padding) [R, S];
        lengths [R]; cls_positions and sentence_order_labels (1 swapped, 0 in order, -100 no pair) [n];
        mask_positions (row * S + column) and labels [N]. They are views of `out`, if one is given.
        Raises TypeError for another dtype or shape, ValueError for a row or token out of range.
        """
