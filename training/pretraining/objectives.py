"""The loss of pretraining: masked LM plus sentence order, each averaged over its targets.

Distillation replaces it by another objective (`training.distilling.distilled_pretraining`).

Sources: Sun et al., "ERNIE: enhanced representation through knowledge integration" (arXiv:1904.09223) for the masked
units; Lan et al., "ALBERT" (arXiv:1909.11942) for sentence order, which replaced next-sentence prediction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor

from model_build.heads import ErnieForPretraining
from training.pretraining.masked_batches import MaskedBatch
from training.runs.data_parallel import ProcessGroup

NO_PAIR = -100


@dataclass(frozen=True)
class Targets:
    """The number of targets of a step, over all processes."""

    tokens: float
    pairs: float
    positions: float
    """without padding"""

    @classmethod
    def of(cls, batch: MaskedBatch, group: ProcessGroup) -> Targets:
        pairs = (batch.sentence_order_labels != NO_PAIR).sum()
        return cls(*group.sum([len(batch.labels), pairs, batch.lengths.sum()]))


class Objective(Protocol):
    """Loss terms that are summed over a batch, so that a step may be split into micro-batches and over processes.

    The first two terms are those of `loss_sums`, for the records.
    """

    def sums(self, model: ErnieForPretraining, batch: MaskedBatch) -> Tensor:
        """The terms summed over the batch, float32 [terms]."""
        ...

    def factors(self, targets: Targets) -> list[float]:
        """The factors of the terms: the loss of a step is the sum of factor * term."""
        ...


class Pretraining:
    """Masked LM and sentence order."""

    def sums(self, model: ErnieForPretraining, batch: MaskedBatch) -> Tensor:
        return loss_sums(*logits(model, batch), batch)

    def factors(self, targets: Targets) -> list[float]:
        return [1 / targets.tokens, 1 / max(1.0, targets.pairs)]


def logits(model: ErnieForPretraining, batch: MaskedBatch) -> tuple[Tensor, Tensor | None]:
    """Masked-LM logits [N, V], and sentence-order logits [n, 2] if the model has that head, otherwise None."""

    def tensor(array: np.ndarray | None) -> Tensor | None:
        return None if array is None else paddle.to_tensor(array)

    packed = batch.segment_ids is not None
    return model(
        tensor(batch.input_ids),
        tensor(batch.token_type_ids),
        tensor(batch.mask_positions),
        position_ids=tensor(batch.position_ids),
        segment_ids=tensor(batch.segment_ids),
        cls_positions=tensor(batch.cls_positions) if packed else None,
    )


def loss_sums(tokens: Tensor, order: Tensor | None, batch: MaskedBatch) -> Tensor:
    """float32 [2]: the sums, in nats, of the masked-LM loss over tokens and of the sentence-order loss over pairs.

    `tokens` and `order` are the results of `logits`.
    """
    masked_lm = F.cross_entropy(tokens, paddle.to_tensor(batch.labels), reduction="sum")
    if order is None:
        return paddle.stack([masked_lm, paddle.zeros_like(masked_lm)])
    labels = paddle.to_tensor(batch.sentence_order_labels)
    return paddle.stack([masked_lm, F.cross_entropy(order, labels, ignore_index=NO_PAIR, reduction="sum")])
