import os
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

def version() -> str:
    """Version of the distribution from which this extension was built."""

def unicode_version() -> str:
    """Version of the Unicode tables: `unicodedata.unidata_version` of the Python that built the extension."""

Rules: TypeAlias = Literal["bert", "paddlenlp"]
SpecialTokens: TypeAlias = Literal["none", "mask", "all"]
Truncation: TypeAlias = Literal["longest_first", "only_first", "only_second", "none"]
Ids: TypeAlias = npt.NDArray[np.int64] | npt.NDArray[np.int32]

class Encoding:
    """The tokens of one text or pair: [CLS] text [SEP] (pair [SEP]).

    Each access to a list property makes a new list.
    """

    @property
    def ids(self) -> list[int]: ...
    @property
    def token_type_ids(self) -> list[int]:
        """1 for the tokens of the pair and the [SEP] after it, otherwise 0."""
    @property
    def offsets(self) -> list[tuple[int, int]]:
        """For each token, start and end of its characters in the original text or pair; (0, 0) for added tokens."""
    @property
    def special_tokens_mask(self) -> list[int]:
        """1 for the added [CLS] and [SEP], otherwise 0, also for a special token in the text."""
    @property
    def full_length(self) -> int:
        """Number of tokens before truncation, with added tokens."""
    @property
    def overflow(self) -> int:
        """Number of tokens that truncation removed."""
    @property
    def truncated(self) -> bool: ...
    @property
    def unknown(self) -> int:
        """Number of [UNK] among the tokens, after truncation."""
    @property
    def text_lengths(self) -> tuple[int, int]:
        """Number of tokens of the text and of the pair (0 without one), before truncation, without added tokens."""
    def __len__(self) -> int: ...

class PaddedBatch:
    """Arrays [B, S] of the requested dtype, and lengths [B]."""

    @property
    def input_ids(self) -> Ids:
        """[B, S], padded with the id of [PAD]."""
    @property
    def token_type_ids(self) -> Ids:
        """[B, S], padded with 0."""
    @property
    def attention_mask(self) -> Ids:
        """[B, S], 1 for tokens and 0 for padding."""
    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """[B], number of tokens in each row, without padding."""
    @property
    def full_lengths(self) -> npt.NDArray[np.int64]:
        """[B], number of tokens in each row before truncation."""

class ErnieTokenizer:
    """The WordPiece tokenizer of BERT (Devlin et al., 2018, arXiv:1810.04805), for vocabularies of ERNIE and BERT.

    It is constant after construction, so threads may share it, and it can be pickled. It releases the GIL for texts of
    1,000 characters or more. native/README.md says what it does with each character, and where the best-known
    implementations of BERT's tokenizer differ.
    """

    def __init__(
        self,
        tokens: Sequence[str],
        *,
        lower_case: bool = True,
        strip_accents: bool | None = None,
        split_cjk: bool = True,
        rules: Rules = "bert",
        fold_width: bool = False,
    ) -> None:
        """The id of a token is its index in `tokens`; if a token occurs several times, its last index.

        `lower_case` converts letters to lower case. `strip_accents` removes combining marks; None means the value of
        `lower_case`. `split_cjk` makes every Chinese character a separate word. With the rules `paddlenlp`, symbols
        such as ℃ and 〇 are words too, as in PaddleNLP's Python tokenizer. `fold_width` reads full-width letters and
        digits as ASCII. Raises ValueError if a token is empty
        or if [CLS], [SEP] or [UNK] is missing, TypeError if `tokens` is not a sequence of str.
        """
    @staticmethod
    def from_file(
        path: str | os.PathLike[str],
        *,
        lower_case: bool = True,
        strip_accents: bool | None = None,
        split_cjk: bool = True,
        rules: Rules = "bert",
        fold_width: bool = False,
    ) -> ErnieTokenizer:
        """Reads the vocabulary from a file with lines `token` or `token<TAB>id`.

        Raises ValueError that names file and line, or OSError.
        """
    def encode(
        self,
        text: str,
        pair: str | None = None,
        *,
        add_special_tokens: bool = True,
        special_tokens: SpecialTokens = "all",
        max_length: int | None = None,
        truncation: Truncation = "longest_first",
    ) -> Encoding:
        """Encodes a text or a pair.

        `special_tokens`: which special tokens, if they are written in the text, become their ids: none, only [MASK], or
        all. Other special tokens are read as brackets and letters.

        `max_length` counts tokens, including the special ones. `longest_first` shortens the longer text to the length
        of the other, then both in turn, beginning with the second, as PaddleNLP does. `only_first` and `only_second`
        shorten that text alone. `none` does not truncate; the result can then be longer than `max_length`. Raises
        ValueError if `max_length` is too small for the special tokens, or for the text that is not shortened.
        """
    def encode_batch(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        add_special_tokens: bool = True,
        special_tokens: SpecialTokens = "all",
        max_length: int | None = None,
        truncation: Truncation = "longest_first",
        padding: Literal["longest", "max_length"] = "longest",
        pad_to_multiple_of: int | None = None,
        dtype: Any = "int64",
    ) -> PaddedBatch:
        """Encodes texts, or pairs of texts, into arrays of `dtype` int64 or int32.

        S is the length of the longest row; with `padding` "max_length" it is at least `max_length`. It is then rounded
        up to a multiple of `pad_to_multiple_of`. Raises ValueError as `encode` does, if texts and pairs differ in
        number, and if a row needs padding but the vocabulary has no [PAD].
        """
    def encode_flat(
        self, texts: Sequence[str], *, special_tokens: bool = False
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """Encodes texts, such as those of a corpus, without [CLS] and [SEP]: ids [T], splits [B + 1], starts [T].

        Text i has the ids splits[i] to splits[i + 1] - 1. `starts` gives for each token the index of its first
        character in its text. A special token in a text, such as "[MASK]", is read as brackets and letters unless
        `special_tokens` is true.
        """
    def token_to_id(self, token: str) -> int | None: ...
    def id_to_token(self, id: int) -> str:
        """Raises IndexError if there is no such id."""
    def __len__(self) -> int:
        """Number of tokens in the vocabulary."""
    @property
    def tokens(self) -> list[str]:
        """All tokens in the order of their ids, in a new list."""
    @property
    def vocab_size(self) -> int: ...
    @property
    def duplicates(self) -> int:
        """Number of entries whose token occurs again later, so that no text gets their id."""
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
    @property
    def rules(self) -> Rules: ...
    @property
    def fold_width(self) -> bool: ...

MAX_BLENDING_PERIOD: int
"""The largest sum of the weights of a `Blending`."""

def philox4x32(counter: Sequence[int], key: Sequence[int]) -> list[int]:
    """One block of Philox4x32-10: a counter of four words and a key of two -> four random words, all of 32 bits.

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
    """The samples of the documents first … last - 1, in order: rows int64 [n, 2], and a dict of counts.

    `offsets` int64 [sentences + 1] and `documents` int64 [D + 1] are those of `IndexedCorpus`; `tokens` is the length
    of the corpus. The two words of a row are begin, and length | target << 32 | pair << 48 (`training.samples.SAMPLE`,
    little-endian).

    A sample takes whole sentences of a document until it has its target number of tokens. The target is `window`, or,
    with probability `short_seq_prob`, drawn uniformly from 2 … window. With `pairs`, a sample takes at least two
    sentences, and also the last sentence of the document if that would be left alone. A sentence longer than the window
    is cut into windows, each of which is a sample; the rest of the sentence begins the next sample.

    The counts are samples, pairs, empty_documents, single_sentence_documents and cut_sentences. Random draws are keyed
    by (seed, document). Raises TypeError for another dtype or shape, ValueError for a damaged index or a setting out of
    range.
    """

def permute(positions: np.ndarray, *, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The epoch and the row at each position of an endless run over `size` rows: int64 [n] -> int64 [n] twice.

    Every epoch contains each row once, in an order keyed by (seed, epoch). It needs O(1) memory: a Feistel network with
    cycle walking (J. Black, P. Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002). Raises TypeError for
    another dtype or shape, ValueError for a negative position or a `size` out of range.
    """

class Blending:
    """Weighted mixing of corpora with random access.

    In every prefix, the number of samples of a corpus deviates from its share by less than one.
    Source: R. Tijdeman, "The chairman assignment problem", Discrete Mathematics 32, 1980.
    """

    period: int

    def __init__(self, weights: Sequence[int]) -> None:
        """Raises ValueError unless each weight is at least 1 and their sum at most MAX_BLENDING_PERIOD."""
    def at(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """positions int64 [n] -> corpus int32 [n], and the number of its samples at earlier positions, int64 [n]."""

class BatchMaker:
    """Makes batches for masked-LM pretraining. Thread-safe; releases the GIL.

    training/README.md specifies the rules.
    """

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
        """A corpus is a tuple: tokens uint16 or int32 [T], boundaries uint8 [T] or None, offsets int64 [n + 1], seed.

        `continuation` bool [vocab_size] marks `##` pieces. Random replacements are drawn from `ordinary_ids` int32 [k].
        `levels` float64 [epochs, 4] gives the shares of samples masked by character, word, phrase and entity; the last
        row also holds for all later epochs. The other settings are explained in `training.batches.BatchSettings`.
        Raises TypeError for another dtype or shape, ValueError for settings out of range or in contradiction.
        """
    def capacity(self, samples: int) -> int:
        """int64 entries that `out` needs for a batch of `samples` samples."""
    def make(
        self,
        corpora: np.ndarray,
        rows: np.ndarray,
        epochs: np.ndarray,
        samples: np.ndarray,
        out: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """One batch of n samples in R rows of S tokens, as int64 arrays; R = n unless rows are packed.

        corpora int32 [n] gives the corpus of each sample, rows int64 [n, 2] its row from `build_sample_map`; epochs and
        samples int64 [n] key its random draws. The arrays are views of `out`, if it is given:

        - input_ids and token_type_ids [R, S]; with packing also position_ids and segment_ids (0 is padding) [R, S]
        - lengths [R]
        - cls_positions (row * S + column) and sentence_order_labels (1 swapped, 0 in order, -100 no pair) [n]
        - mask_positions (row * S + column) and labels [N]

        Raises TypeError for another dtype or shape, ValueError for a row or token out of range.
        """
