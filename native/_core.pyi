from collections.abc import Sequence

import numpy as np

def version() -> str:
    """Version of the distribution this extension was built from."""

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
    A row's words are begin, and length | target << 32 | pair << 48 (`training.samples.SAMPLE`, little-endian).

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
    """Makes batches for masked-LM pretraining; thread-safe, releases the GIL. See training/SAMPLES.md for the rules."""

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
