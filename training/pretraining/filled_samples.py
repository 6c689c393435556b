"""Sample sentences before masking, masked, and filled in by the model, for the report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from training.pretraining.masked_batches import MaskedBatch
from training.reports.detokenization import spaced_tokens, without_prefix

EXCERPT = 80
"""Largest number of tokens shown of a sample."""
BEST = 5
"""Number of predicted tokens kept per position."""


@dataclass(frozen=True)
class MaskPrediction:
    """The prediction of the model for one masked position."""

    index: int
    """index of the token in `FilledSample.original` and `FilledSample.seen`"""
    label: str
    """the original token"""
    probability: float
    """predicted probability of the label"""
    best: tuple[tuple[str, float], ...]
    """the most probable tokens and their probabilities, descending"""

    @property
    def right(self) -> bool:
        """Whether the most probable token is the label."""
        return self.best[0][0] == self.label


@dataclass(frozen=True)
class FilledSample:
    """A sample, or an excerpt of it, without [CLS] and the last [SEP]; a [SEP] between two texts is kept."""

    original: tuple[str, ...]
    """tokens before masking"""
    seen: tuple[str, ...]
    """tokens as the model received them"""
    guesses: tuple[MaskPrediction, ...]
    """in the order of their index"""
    begins: bool = True
    ends: bool = True
    """whether the excerpt contains the first and the last token of the sample"""

    @property
    def filled(self) -> tuple[str, ...]:
        """The tokens, with the most probable token at each masked position."""
        best = {guess.index: guess.best[0][0] for guess in self.guesses}
        return tuple(best.get(index, token) for index, token in enumerate(self.original))

    def __str__(self) -> str:
        """Three lines of text; predicted tokens are in brackets, a wrong one with ≠ and the original token."""
        filled = spaced_tokens(self.filled)
        for guess in self.guesses:
            gap, text = filled[guess.index]
            filled[guess.index] = gap, f"[{text}]" if guess.right else f"[{text}≠{without_prefix(guess.label)}]"
        before, after = "" if self.begins else "…", "" if self.ends else "…"
        lines = (("original", spaced_tokens(self.original)), ("masked", spaced_tokens(self.seen)), ("filled", filled))
        return "\n".join(f"{name:10}{before}{''.join(gap + text for gap, text in line)}{after}" for name, line in lines)


def filled_samples(
    batch: MaskedBatch, tokens: Sequence[str], predict: Callable[[MaskedBatch], np.ndarray], count: int = 10
) -> list[FilledSample]:
    """The first `count` samples of a batch, padded or packed, with the predictions of the model.

    `tokens` are the tokens of the vocabulary by id. `predict` receives `first_samples` of the batch and returns the
    logits for its `mask_positions`, float32 [N, V]. V may exceed the vocabulary; an id without a token is shown as
    [id 17964]. Of a sample with more than `EXCERPT` tokens the excerpt with the most masks is shown. Raises ValueError
    for logits of another shape.
    """
    batch = first_samples(batch, count)
    logits = predict(batch)
    positions = batch.mask_positions
    if logits.ndim != 2 or len(logits) != len(positions) or logits.shape[1] < len(tokens):
        raise ValueError(
            f"the logits for {len(positions)} masks and {len(tokens)} tokens have the shape {list(logits.shape)}; "
            "give one row per mask and at least one column per token."
        )
    seen = batch.input_ids.reshape(-1)
    original = seen.copy()
    original[positions] = batch.labels
    made = []
    for begin, end in _texts(batch)[:count]:
        first, last = _excerpt(positions[(positions >= begin) & (positions < end)] - begin, end - begin)
        first, last = begin + first, begin + last
        rows = np.flatnonzero((positions >= first) & (positions < last))
        guesses = (
            _mask_prediction(int(positions[row]) - first, batch.labels[row], logits[row], tokens) for row in rows
        )
        filling = FilledSample(
            original=tuple(tokens[id] for id in original[first:last]),
            seen=tuple(tokens[id] for id in seen[first:last]),
            guesses=tuple(sorted(guesses, key=lambda guess: guess.index)),
            begins=first == begin,
            ends=last == end,
        )
        made.append(filling)
    return made


def first_samples(batch: MaskedBatch, count: int) -> MaskedBatch:
    """The rows of a batch that contain its first `count` samples, with only the masks of these samples."""
    width = batch.input_ids.shape[1]
    rows = np.unique(batch.cls_positions[:count] // width)
    here = np.isin(batch.cls_positions // width, rows)
    wanted = np.zeros(batch.input_ids.size, dtype=bool)
    for begin, end in _texts(batch)[:count]:
        wanted[begin:end] = True
    masks = wanted[batch.mask_positions]

    def moved(positions: np.ndarray) -> np.ndarray:
        return np.searchsorted(rows, positions // width) * width + positions % width

    return dataclasses.replace(
        batch,
        input_ids=batch.input_ids[rows],
        token_type_ids=batch.token_type_ids[rows],
        lengths=batch.lengths[rows],
        cls_positions=moved(batch.cls_positions[here]),
        sentence_order_labels=batch.sentence_order_labels[here],
        mask_positions=moved(batch.mask_positions[masks]),
        labels=batch.labels[masks],
        position_ids=None if batch.position_ids is None else batch.position_ids[rows],
        segment_ids=None if batch.segment_ids is None else batch.segment_ids[rows],
    )


def _texts(batch: MaskedBatch) -> list[tuple[int, int]]:
    """Start and end of each sample between its [CLS] and its last [SEP], as positions row * S + column."""
    begins, width = batch.cls_positions, batch.input_ids.shape[1]
    rows = begins // width
    ordered = np.append(np.sort(begins), batch.input_ids.size)
    following = ordered[np.searchsorted(ordered, begins, side="right")]
    ends = np.minimum(following, rows * width + batch.lengths[rows])
    return [(int(begin) + 1, int(end) - 1) for begin, end in zip(begins, ends, strict=True)]


def _excerpt(masks: np.ndarray, length: int) -> tuple[int, int]:
    """Start and end of the `EXCERPT` tokens with the most masks, centred on these."""
    if length <= EXCERPT:
        return 0, length
    before = np.concatenate([[0], np.cumsum(np.bincount(masks, minlength=length))])
    held = before[EXCERPT:] - before[:-EXCERPT]
    most = np.flatnonzero(held == held.max())
    together = most[most - most[0] == np.arange(len(most))]
    first = int(together[len(together) // 2])
    return first, first + EXCERPT


def _mask_prediction(index: int, label: int, logits: np.ndarray, tokens: Sequence[str]) -> MaskPrediction:
    scores = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):  # the logits of a diverged model are NaN and are shown as such
        probabilities = np.exp(scores - scores.max())
    probabilities /= probabilities.sum()
    most = min(BEST, len(scores))
    best = np.argpartition(-scores, most - 1)[:most]
    best = best[np.lexsort((best, -scores[best]))]
    return MaskPrediction(
        index,
        tokens[label],
        float(probabilities[label]),
        tuple((tokens[id] if id < len(tokens) else f"[id {id}]", float(probabilities[id])) for id in best),
    )
