"""Splits the batch of an optimiser step into micro-batches that fit into memory and need little padding.

The loss of a step is a sum over samples divided by the number of targets, so the split changes only the speed. Rows
are taken longest first: a micro-batch holds rows of similar length and is padded to its longest row.
"""

from __future__ import annotations

import numpy as np

from training.pretraining.masked_batches import MaskedBatch


def micro_batches(batch: MaskedBatch, tokens: int, *, pad_multiple: int = 8) -> list[MaskedBatch]:
    """Micro-batches of at most `tokens` tokens each, including padding, but of at least one row.

    Every row, sample and target of `batch` is in exactly one of them, in the same order; row lengths are rounded up to
    `pad_multiple`.
    """
    width = batch.input_ids.shape[1]
    order = np.argsort(-batch.lengths, kind="stable")
    widths = np.minimum(-(-batch.lengths[order] // pad_multiple) * pad_multiple, width)
    pieces, first = [], 0
    while first < len(order):
        rows = max(1, tokens // int(widths[first]))
        chosen = np.sort(order[first : first + rows])
        pieces.append(_rows(batch, chosen, int(widths[first])))
        first += rows
    return pieces


def _rows(batch: MaskedBatch, rows: np.ndarray, width: int) -> MaskedBatch:
    """The rows `rows` of a batch, cut to `width` columns, with positions for the new shape."""
    old_width = batch.input_ids.shape[1]
    new_row = np.full(len(batch.input_ids), -1, dtype=np.int64)
    new_row[rows] = np.arange(len(rows))

    def moved(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which of the positions are in the rows, and their new values."""
        row, column = np.divmod(positions, old_width)
        here = new_row[row] >= 0
        return here, new_row[row[here]] * width + column[here]

    def cut(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array[rows, :width])

    samples, cls_positions = moved(batch.cls_positions)
    targets, mask_positions = moved(batch.mask_positions)
    return MaskedBatch(
        next_position=batch.next_position,
        input_ids=cut(batch.input_ids),
        token_type_ids=cut(batch.token_type_ids),
        lengths=batch.lengths[rows],
        cls_positions=cls_positions,
        sentence_order_labels=batch.sentence_order_labels[samples],
        mask_positions=mask_positions,
        labels=batch.labels[targets],
        position_ids=None if batch.position_ids is None else cut(batch.position_ids),
        segment_ids=None if batch.segment_ids is None else cut(batch.segment_ids),
    )
