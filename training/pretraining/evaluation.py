"""Loss and accuracy of masked LM and sentence order on the validation split."""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F

from model_build.heads import ErnieForPretraining
from training.pretraining.masked_batches import MaskedBatch
from training.pretraining.micro_batches import micro_batches
from training.pretraining.objectives import NO_PAIR, logits
from training.runs.data_parallel import ProcessGroup


@paddle.no_grad()
def evaluate(model: ErnieForPretraining, batch: MaskedBatch, group: ProcessGroup, tokens: int) -> dict[str, float]:
    """Loss in nats, top-1 and top-5 accuracy over the batch of all processes; leaves the model in training mode.

    `tokens` is the largest number of tokens per forward pass. Keys are mlm_loss, top1, top5, tokens, and with sentence
    order also sop_loss, sop_accuracy, pairs.
    """
    model.eval()
    sums = np.zeros(7)
    for piece in micro_batches(batch, tokens):
        sums += _scores(model, piece)
    model.train()
    count, loss, top1, top5, pairs, sop_loss, right = group.sum(sums)
    figures = {"mlm_loss": loss / count, "top1": top1 / count, "top5": top5 / count, "tokens": count}
    if pairs:
        figures |= {"sop_loss": sop_loss / pairs, "sop_accuracy": right / pairs, "pairs": pairs}
    return {name: float(value) for name, value in figures.items()}


def _scores(model: ErnieForPretraining, batch: MaskedBatch) -> np.ndarray:
    """float64 [7]: tokens, their loss, top-1 and top-5 hits; pairs, their loss, hits."""
    tokens, order = logits(model, batch)
    labels = paddle.to_tensor(batch.labels)
    best = paddle.topk(tokens, 5)[1].numpy() == batch.labels[:, None]
    found = [len(best), float(F.cross_entropy(tokens, labels, reduction="sum")), best[:, 0].sum(), best.sum()]
    if order is None:
        return np.array([*found, 0, 0, 0])
    pairs = batch.sentence_order_labels != NO_PAIR
    loss = F.cross_entropy(order, paddle.to_tensor(batch.sentence_order_labels), ignore_index=NO_PAIR, reduction="sum")
    hits = (order.numpy().argmax(axis=1) == batch.sentence_order_labels)[pairs].sum()
    return np.array([*found, pairs.sum(), float(loss), hits])
