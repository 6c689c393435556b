"""Batches for pretraining with whole-word masks: the samples at each position of a run, masked in C++ (`native`)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from native import BatchMaker
from training.corpus.blending import Blend
from training.pretraining.sample_order import Source


@dataclass(frozen=True)
class MaskingVocabulary:
    """The parts of a vocabulary that masking needs."""

    size: int
    pad: int
    cls: int
    sep: int
    mask: int
    continuation: np.ndarray
    """bool [size]: True for `##` pieces"""
    ordinary: np.ndarray
    """int32 [k]: the tokens from which random replacements are drawn: no special or unused tokens, and no `##` pieces,
    which would lack the beginning of their word"""

    @classmethod
    def of(cls, tokens: Sequence[str]) -> MaskingVocabulary:
        """From the tokens in the order of their ids. Raises ValueError if a special token is missing."""
        ids = {token: index for index, token in reversed(list(enumerate(tokens)))}
        missing = [token for token in ("[PAD]", "[CLS]", "[SEP]", "[MASK]") if token not in ids]
        if missing:
            raise ValueError(f"the vocabulary lacks {', '.join(missing)}; masked-LM batches need these tokens.")
        special = np.array([token.startswith("[") and token.endswith("]") and len(token) > 2 for token in tokens])
        continuation = np.array([token.startswith("##") and len(token) > 2 for token in tokens])
        return cls(
            size=len(tokens),
            pad=ids["[PAD]"],
            cls=ids["[CLS]"],
            sep=ids["[SEP]"],
            mask=ids["[MASK]"],
            continuation=continuation,
            ordinary=np.flatnonzero(~(special | continuation)).astype(np.int32),
        )


@dataclass(frozen=True)
class BatchSettings:
    """How samples are masked and arranged in rows."""

    max_seq_length: int = 512
    """tokens per row, including special tokens; the same as in the sample map"""
    masked_lm_prob: float = 0.15
    """share of the tokens to predict; a sample of `length` tokens, including special ones, has
    max(1, round(share * length)) of them"""
    max_ngrams: int = 3
    """largest number of neighbouring units masked together; n of them have a probability proportional to 1/n"""
    levels: Sequence[Sequence[float]] = ((0.0, 1.0, 0.0, 0.0),)
    """shares of the samples that are masked by character, word, phrase and entity; one row per epoch of the corpus, the
    last row for all later epochs"""
    sentence_order: bool = True
    """cut samples into sentence-order pairs if the sample map allows it"""
    mask_share: float = 0.8
    random_share: float = 0.1
    """shares of the chosen tokens that become [MASK] and a random ordinary token; the others are kept"""
    replace_whole_units: bool = False
    """treat all tokens of a unit the same way: [MASK], random, or kept"""
    pad_multiple: int = 8
    """row length is rounded up to a multiple of it: 1 pads to the longest row, max_seq_length to the full length"""
    pack: bool = False
    """put several samples into one row"""


@dataclass(frozen=True)
class MaskedBatch:
    """One batch of n samples in R rows of S tokens. Every array is int64 and not shared."""

    next_position: int
    """samples that all ranks together have seen after this batch: the position to resume at"""
    input_ids: np.ndarray
    """[R, S]"""
    token_type_ids: np.ndarray
    """[R, S]: 0 up to the first [SEP], 1 from there to the second [SEP]; 0 for padding"""
    lengths: np.ndarray
    """[R]: tokens per row without padding"""
    cls_positions: np.ndarray
    """[n]: row * S + column of each sample's [CLS]"""
    sentence_order_labels: np.ndarray
    """[n]: 1 swapped, 0 in order, -100 (Paddle's ignore_index) if the sample is not a pair"""
    mask_positions: np.ndarray
    """[N]: row * S + column of the tokens to predict"""
    labels: np.ndarray
    """[N]: ids of these tokens before masking"""
    position_ids: np.ndarray | None = field(default=None)
    """[R, S], packed rows only: counted from 0 in every sample"""
    segment_ids: np.ndarray | None = field(default=None)
    """[R, S], packed rows only: 1, 2, … by sample, 0 for padding; a token attends only to tokens of its sample"""


class MaskedBatches:
    """The batches of one rank of a run over one or several corpora.

    A run is one endless sequence of samples. The sample at position p is computed in closed form: its corpus (`Blend`),
    its epoch and row in the sample map of that corpus (`Source`), and its masks, which are keyed by (seed, epoch, row).
    So ranks, threads, batch size and length of the run do not change the sample at a position.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        vocabulary: MaskingVocabulary,
        settings: BatchSettings,
        *,
        batch_size: int,
        weights: Sequence[Fraction | float] | None = None,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        """`batch_size` is the number of samples per step over all ranks; `weights` are equal by default.

        Raises ValueError for sizes that do not fit together and for contradicting settings.
        """
        if not sources:
            raise ValueError("there is no corpus; give at least one.")
        if weights is not None and len(weights) != len(sources):
            raise ValueError(
                f"there are {len(weights)} weights for {len(sources)} corpora; give one weight per corpus."
            )
        if not 0 <= rank < ranks:
            raise ValueError(f"rank {rank} is not in 0 to {ranks - 1}.")
        if batch_size < 1 or batch_size % ranks:
            raise ValueError(
                f"batch_size {batch_size} cannot be divided among {ranks} ranks; give a multiple of {ranks}."
            )
        for source in sources:
            if not len(source.rows):
                raise ValueError(f"{source.corpus.prefix} has no samples; leave it out.")
        self.batch_size = batch_size
        self._sources = sources
        self._blend = Blend(weights if weights is not None else [1] * len(sources))
        self._share = batch_size // ranks
        self._offset = rank * self._share
        self._maker = _maker(sources, vocabulary, settings)

    def at(self, position: int) -> MaskedBatch:
        """This rank's share of the batch that begins at `position`, counted in samples of all ranks."""
        first = position + self._offset
        corpora, numbers = self._blend.at(np.arange(first, first + self._share, dtype=np.int64))
        epochs, indices, rows = np.empty_like(numbers), np.empty_like(numbers), np.empty((len(numbers), 2), np.int64)
        for corpus in np.unique(corpora):
            source, here = self._sources[corpus], corpora == corpus
            epochs[here], indices[here] = source.at(numbers[here])
            rows[here] = source.rows[indices[here]].view(np.int64).reshape(-1, 2)
        arrays = self._maker.make(corpora, rows, epochs, indices)
        return MaskedBatch(position + self.batch_size, **arrays)

    def iterate(
        self, start: int = 0, stop: int | None = None, *, threads: int = 1, ahead: int = 4
    ) -> Iterator[MaskedBatch]:
        """Batches from position `start` (any `next_position`), up to the batch that reaches `stop`, or without end.

        Up to `ahead` batches are prepared in `threads` threads; these numbers do not change the batches.
        """
        if start < 0 or threads < 1 or ahead < 1:
            raise ValueError(f"start {start} must be at least 0, threads {threads} and ahead {ahead} at least 1.")
        return self._iterate(start, stop, threads, max(ahead, threads))

    def _iterate(self, position: int, stop: int | None, threads: int, ahead: int) -> Iterator[MaskedBatch]:
        pending: deque[Future[MaskedBatch]] = deque()
        pool = ThreadPoolExecutor(threads, thread_name_prefix="batches")
        try:
            while pending or stop is None or position < stop:
                while len(pending) < ahead and (stop is None or position < stop):
                    pending.append(pool.submit(self.at, position))
                    position += self.batch_size
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _maker(sources: Sequence[Source], vocabulary: MaskingVocabulary, settings: BatchSettings) -> BatchMaker:
    return BatchMaker(
        [(each.corpus.tokens, each.corpus.boundaries, each.corpus.offsets, each.seed) for each in sources],
        vocab_size=vocabulary.size,
        cls_id=vocabulary.cls,
        sep_id=vocabulary.sep,
        mask_id=vocabulary.mask,
        pad_id=vocabulary.pad,
        continuation=vocabulary.continuation,
        ordinary_ids=vocabulary.ordinary,
        levels=np.array(settings.levels, dtype=np.float64),
        max_seq_length=settings.max_seq_length,
        masked_lm_prob=settings.masked_lm_prob,
        max_ngrams=settings.max_ngrams,
        sentence_order=settings.sentence_order,
        mask_share=settings.mask_share,
        random_share=settings.random_share,
        replace_whole_units=settings.replace_whole_units,
        pad_multiple=settings.pad_multiple,
        pack=settings.pack,
    )
