"""Samples before masking, masked, and filled in by the model: what a masked LM has learned, in sentences."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from training.pretraining.masked_batches import MaskedBatch
from training.reports.detokenization import spaced_tokens, without_prefix

STRETCH = 80
"""Tokens of a sample that are shown."""
BEST = 5
"""Tokens that are kept of what the model thought of a position."""


@dataclass(frozen=True)
class MaskPrediction:
    """What the model thought of one position that it had to predict."""

    index: int
    """of the token in `FilledSample.original` and `FilledSample.seen`"""
    label: str
    """the token that stood there"""
    probability: float
    """that the model gave the label"""
    best: tuple[tuple[str, float], ...]
    """the most probable tokens and their probabilities, falling"""

    @property
    def right(self) -> bool:
        """Whether the most probable token is the label."""
        return self.best[0][0] == self.label


@dataclass(frozen=True)
class FilledSample:
    """A sample, or a stretch of it, without its [CLS] and its last [SEP]; the [SEP] between two texts stays."""

    original: tuple[str, ...]
    """tokens before masking"""
    seen: tuple[str, ...]
    """tokens as the model saw them"""
    guesses: tuple[MaskPrediction, ...]
    """by index"""
    begins: bool = True
    ends: bool = True
    """whether the stretch reaches the sample's first and last token"""

    @property
    def filled(self) -> tuple[str, ...]:
        """Tokens with the most probable one at every position that was to be predicted."""
        best = {guess.index: guess.best[0][0] for guess in self.guesses}
        return tuple(best.get(index, token) for index, token in enumerate(self.original))

    def __str__(self) -> str:
        """Three lines of text; the model's tokens stand in brackets, a wrong one with ≠ and the right one."""
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
    """The first `count` samples of a batch, padded or packed, with what the model makes of their masks.

    `tokens` are those of the vocabulary by id. `predict` gets `first_samples` of the batch and gives float32 [N, V],
    the logits for its `mask_positions`; V may exceed the vocabulary (a size rounded up), and an id without a token is
    shown as [id 17964]. A sample of more than `STRETCH` tokens is shown as the stretch that holds the most masks.
    Raises ValueError when the logits are of another shape.
    """
    batch = first_samples(batch, count)
    logits = predict(batch)
    positions = batch.mask_positions
    if logits.ndim != 2 or len(logits) != len(positions) or logits.shape[1] < len(tokens):
        raise ValueError(
            f"the logits for {len(positions)} masks and {len(tokens)} tokens are of shape {list(logits.shape)}; "
            "give a row for each mask and a column for each token."
        )
    seen = batch.input_ids.reshape(-1)
    original = seen.copy()
    original[positions] = batch.labels
    made = []
    for begin, end in _texts(batch)[:count]:
        first, last = _stretch(positions[(positions >= begin) & (positions < end)] - begin, end - begin)
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
    """The rows of a batch in which its first `count` samples stand, with only these samples' masks to predict."""
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
    """Begin and end of each sample's tokens between its [CLS] and its last [SEP], counted through all rows."""
    begins, width = batch.cls_positions, batch.input_ids.shape[1]
    rows = begins // width
    ordered = np.append(np.sort(begins), batch.input_ids.size)
    following = ordered[np.searchsorted(ordered, begins, side="right")]
    ends = np.minimum(following, rows * width + batch.lengths[rows])
    return [(int(begin) + 1, int(end) - 1) for begin, end in zip(begins, ends, strict=True)]


def _stretch(masks: np.ndarray, length: int) -> tuple[int, int]:
    """First and last + 1 of the `STRETCH` tokens of `length` that hold the most masks, with these in the middle."""
    if length <= STRETCH:
        return 0, length
    before = np.concatenate([[0], np.cumsum(np.bincount(masks, minlength=length))])
    held = before[STRETCH:] - before[:-STRETCH]
    most = np.flatnonzero(held == held.max())
    together = most[most - most[0] == np.arange(len(most))]
    first = int(together[len(together) // 2])
    return first, first + STRETCH


def _mask_prediction(index: int, label: int, logits: np.ndarray, tokens: Sequence[str]) -> MaskPrediction:
    scores = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):  # a model that has diverged gives NaN, and is shown so
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
