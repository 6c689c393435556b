"""Masked-LM pretraining: one readable loop over a packed token stream."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn
from tqdm import tqdm

from model_build.config import ErnieConfig
from model_build.heads import ErnieForMaskedLM
from training.masking import mask_words
from training.tokens import Encoder


@dataclasses.dataclass
class PretrainSettings:
    """Settings of one pretraining run."""

    steps: int = 4000
    """Optimiser steps."""
    batch_size: int = 32
    """Rows per step."""
    max_seq_length: int = 128
    """Tokens per row, [CLS] and [SEP] included."""
    mask_probability: float = 0.15
    """Share of the tokens to predict."""
    learning_rate: float = 1e-3
    """Peak learning rate; linear warm-up, then linear decay to a hundredth of it."""
    warmup_share: float = 0.05
    """Share of the steps spent warming up."""
    weight_decay: float = 0.01
    """Decoupled weight decay; biases and norms are left out."""
    clip_norm: float = 1.0
    """Bound of the global gradient norm."""
    dropout: float = 0.0
    """Dropout; a small model that sees its corpus about once does not need any."""
    seed: int = 1
    """Seed of weights, order and masks."""


@dataclasses.dataclass
class MaskedBatch:
    """One batch: input_ids [B, S], mask_positions [N] (row * S + column), labels [N], all int64."""

    input_ids: np.ndarray
    mask_positions: np.ndarray
    labels: np.ndarray


def rows_of(stream: np.ndarray, width: int, offset: int) -> np.ndarray:
    """Cuts a stream into rows of `width`, starting at `offset`; the rest that fills no row is left."""
    usable = (len(stream) - offset) // width * width
    return stream[offset : offset + usable].reshape(-1, width)


def masked_batches(
    ids: np.ndarray, boundaries: np.ndarray, encoder: Encoder, settings: PretrainSettings, *, seed: int
) -> Iterator[MaskedBatch]:
    """Endless batches; every epoch cuts the stream at another offset, in another order, with other masks."""
    rng = np.random.default_rng(seed)
    width = settings.max_seq_length - 2
    ordinary = np.array(sorted(set(range(len(encoder.tokens))) - set(encoder.specials)))
    if len(ids) < width * settings.batch_size + width:
        raise ValueError(
            f"the corpus has {len(ids)} tokens, fewer than one batch of {settings.batch_size} rows of {width}; "
            "add text or lower --batch-size."
        )
    while True:
        offset = int(rng.integers(width))
        token_rows, boundary_rows = rows_of(ids, width, offset), rows_of(boundaries, width, offset)
        order = rng.permutation(len(token_rows))
        for start in range(0, len(order) - settings.batch_size + 1, settings.batch_size):
            chosen = order[start : start + settings.batch_size]
            yield _mask_batch(token_rows[chosen], boundary_rows[chosen], encoder, ordinary, settings, rng)


def _mask_batch(
    tokens: np.ndarray,
    boundaries: np.ndarray,
    encoder: Encoder,
    ordinary: np.ndarray,
    settings: PretrainSettings,
    rng: np.random.Generator,
) -> MaskedBatch:
    size, width = tokens.shape
    batch = np.full((size, width + 2), encoder.cls, dtype=np.int64)
    batch[:, 1:-1] = tokens
    batch[:, -1] = encoder.sep
    starts = np.ones(batch.shape, dtype=bool)
    starts[:, 2:-1] = boundaries[:, 1:] != 0
    maskable = ~np.isin(batch, encoder.specials)
    positions: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for row in range(size):
        masked, chosen = mask_words(
            batch[row],
            starts[row],
            maskable[row],
            probability=settings.mask_probability,
            mask_id=encoder.mask,
            ordinary_ids=ordinary,
            rng=rng,
        )
        labels.append(batch[row, chosen])
        positions.append(row * batch.shape[1] + chosen)
        batch[row] = masked
    return MaskedBatch(batch, np.concatenate(positions), np.concatenate(labels))


def learning_rate(settings: PretrainSettings) -> paddle.optimizer.lr.LRScheduler:
    """Linear warm-up to the peak, then linear decay to a hundredth of it."""
    warmup = max(1, round(settings.steps * settings.warmup_share))
    decay = paddle.optimizer.lr.PolynomialDecay(
        settings.learning_rate, max(1, settings.steps - warmup), end_lr=settings.learning_rate / 100
    )
    return paddle.optimizer.lr.LinearWarmup(decay, warmup, 0.0, settings.learning_rate)


def optimizer(
    model: nn.Layer, rate: paddle.optimizer.lr.LRScheduler, weight_decay: float, clip_norm: float
) -> paddle.optimizer.Optimizer:
    """AdamW without decay on biases and norms, global-norm clipping."""
    decayed = {parameter.name for name, parameter in model.named_parameters() if parameter.ndim > 1}
    return paddle.optimizer.AdamW(
        rate,
        parameters=model.parameters(),
        weight_decay=weight_decay,
        apply_decay_param_fun=lambda name: name in decayed,
        grad_clip=nn.ClipGradByGlobalNorm(clip_norm),
        beta2=0.98,
    )


def masked_lm_logits(model: ErnieForMaskedLM, batch: MaskedBatch) -> paddle.Tensor:
    """[N, V]."""
    return model(paddle.to_tensor(batch.input_ids), None, paddle.to_tensor(batch.mask_positions))


@paddle.no_grad()
def evaluate(model: ErnieForMaskedLM, batches: list[MaskedBatch]) -> dict[str, float]:
    """Mean loss (nats) and top-1/top-5 accuracy over all masked tokens of `batches`."""
    model.eval()
    loss = hits = top5 = count = 0.0
    for batch in batches:
        logits = masked_lm_logits(model, batch)
        labels = paddle.to_tensor(batch.labels)
        loss += float(F.cross_entropy(logits, labels, reduction="sum"))
        best = paddle.topk(logits, 5)[1].numpy()
        hits += float((best[:, 0] == batch.labels).sum())
        top5 += float((best == batch.labels[:, None]).any(axis=1).sum())
        count += len(batch.labels)
    model.train()
    return {"loss": loss / count, "top1_accuracy": hits / count, "top5_accuracy": top5 / count, "tokens": int(count)}


def pretrain(
    config: ErnieConfig,
    settings: PretrainSettings,
    encoder: Encoder,
    train: tuple[np.ndarray, np.ndarray],
    held_out: tuple[np.ndarray, np.ndarray],
) -> tuple[ErnieForMaskedLM, dict[str, Any]]:
    """Trains a masked LM from scratch; returns it with its held-out figures and the loss curve."""
    paddle.seed(settings.seed)
    model = ErnieForMaskedLM(
        dataclasses.replace(config, hidden_dropout_prob=settings.dropout, attention_probs_dropout_prob=settings.dropout)
    )
    rate = learning_rate(settings)
    adamw = optimizer(model, rate, settings.weight_decay, settings.clip_norm)
    batches = masked_batches(*train, encoder, settings, seed=settings.seed)
    held_out_batches = masked_batches(*held_out, encoder, settings, seed=0)
    evaluation = [
        next(held_out_batches) for _ in range(max(1, min(20, len(held_out[0]) // 130 // settings.batch_size)))
    ]

    curve: list[tuple[int, float]] = []
    recent: list[float] = []
    started = time.monotonic()
    progress = tqdm(range(1, settings.steps + 1), desc="pretrain", unit="step", mininterval=5)
    for step in progress:
        batch = next(batches)
        loss = F.cross_entropy(masked_lm_logits(model, batch), paddle.to_tensor(batch.labels))
        loss.backward()
        adamw.step()
        adamw.clear_grad()
        rate.step()
        recent.append(float(loss))
        if step % 50 == 0 or step == settings.steps:
            curve.append((step, float(np.mean(recent))))
            tokens = step * settings.batch_size * settings.max_seq_length / (time.monotonic() - started)
            progress.set_postfix(loss=f"{curve[-1][1]:.3f}", tokens_per_s=f"{tokens:,.0f}", refresh=False)
            recent.clear()
    figures = evaluate(model, evaluation)
    return model, {"held_out": figures, "curve": curve, "seconds": time.monotonic() - started}
