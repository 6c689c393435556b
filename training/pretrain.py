"""Masked-LM pretraining: one readable loop over a packed token stream."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn
from tqdm import tqdm

from model_build.config import ErnieConfig
from model_build.ernie import set_sinusoidal_positions
from model_build.heads import ErnieForMaskedLM
from training.masking import mask_words
from training.settings import PretrainSettings
from training.tokens import Encoder


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


@dataclasses.dataclass(frozen=True)
class BatchPlan:
    """What the batches of one stage are like."""

    rows: int
    seq_length: int
    mask_probability: float
    whole_words: bool


def plan(settings: PretrainSettings, step: int) -> BatchPlan:
    """The plan of step 1, 2, …: short rows first (as BERT was trained), single tokens before whole words.

    The latter is ERNIE 1.0's basic level before its word level (arXiv:1904.09223, section 3.2).
    """
    short = step <= settings.short_share * settings.steps
    length = settings.short_seq_length if short else settings.max_seq_length
    return BatchPlan(
        rows=max(1, settings.batch_size * settings.max_seq_length // length),
        seq_length=length,
        mask_probability=settings.mask_probability,
        whole_words=step > settings.basic_level_share * settings.steps,
    )


def masked_batches(
    ids: np.ndarray, boundaries: np.ndarray, encoder: Encoder, plans: Iterable[BatchPlan], *, seed: int
) -> Iterator[MaskedBatch]:
    """One batch for each plan; every epoch cuts the stream at another offset, in another order, with other masks."""
    rng = np.random.default_rng(seed)
    ordinary = np.array(sorted(set(range(len(encoder.tokens))) - set(encoder.specials)))
    width, order, taken = 0, np.array([], dtype=np.int64), 0
    for each in plans:
        if width != each.seq_length - 2 or taken + each.rows > len(order):
            width = each.seq_length - 2
            if len(ids) < width * (each.rows + 1):
                raise ValueError(
                    f"the text has {len(ids)} tokens, fewer than one batch of {each.rows} rows of {width}; add text or "
                    "lower --batch-size or --max-seq-length."
                )
            offset = int(rng.integers(width))
            token_rows, boundary_rows = rows_of(ids, width, offset), rows_of(boundaries, width, offset)
            order, taken = rng.permutation(len(token_rows)), 0
        chosen = order[taken : taken + each.rows]
        taken += each.rows
        units = boundary_rows[chosen] if each.whole_words else np.ones_like(boundary_rows[chosen])
        yield _mask_batch(token_rows[chosen], units, encoder, ordinary, each.mask_probability, rng)


def _mask_batch(
    tokens: np.ndarray,
    boundaries: np.ndarray,
    encoder: Encoder,
    ordinary: np.ndarray,
    mask_probability: float,
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
            probability=mask_probability,
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
    """Mean loss (nats) and top-1/top-5 accuracy over all masked tokens of `batches`; leaves the model in eval mode."""
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
    return {"loss": loss / count, "top1_accuracy": hits / count, "top5_accuracy": top5 / count, "tokens": int(count)}


def held_out_batches(
    held_out: tuple[np.ndarray, np.ndarray], encoder: Encoder, seq_length: int, level: str
) -> list[MaskedBatch]:
    """The same batches on every call: one pass over at most 200,000 held-out tokens, masked at BERT's 15 %.

    `level` is "token" (single tokens are masked) or "word" (whole words are).
    """
    # A held-out text shorter than two rows still makes one row.
    width = max(1, min(seq_length - 2, len(held_out[0]) // 2))
    rows = max(1, min(32, len(held_out[0]) // width - 1))
    count = max(1, min(200_000, len(held_out[0])) // (rows * width))
    plans = [BatchPlan(rows, width + 2, 0.15, level == "word")] * count
    return list(masked_batches(*held_out, encoder, plans, seed=0))


def held_out_figures(
    model: ErnieForMaskedLM, held_out: tuple[np.ndarray, np.ndarray], encoder: Encoder, lengths: Iterable[int]
) -> dict[str, dict[str, float]]:
    """`evaluate` on held-out text, by level of masking and tokens per row: `token_64`, `word_64`, …"""
    return {
        f"{level}_{length}": evaluate(model, held_out_batches(held_out, encoder, length, level))
        for length in sorted(lengths)
        for level in ("token", "word")
    }


@dataclasses.dataclass
class Pretrained:
    """What a pretraining run gives: the model, its figures (see `held_out_figures`), and the loss curve."""

    model: ErnieForMaskedLM
    held_out: dict[str, dict[str, float]]
    curve: list[tuple[int, float]]
    seconds: float


def pretrain(
    config: ErnieConfig,
    settings: PretrainSettings,
    encoder: Encoder,
    train: tuple[np.ndarray, np.ndarray],
    held_out: tuple[np.ndarray, np.ndarray],
) -> Pretrained:
    """Trains a masked LM from scratch. `train` and `held_out` are token streams: ids and boundaries."""
    paddle.seed(settings.seed)
    model = ErnieForMaskedLM(
        dataclasses.replace(config, hidden_dropout_prob=settings.dropout, attention_probs_dropout_prob=settings.dropout)
    )
    set_sinusoidal_positions(model.ernie)
    rate = learning_rate(settings)
    adamw = optimizer(model, rate, settings.weight_decay, settings.clip_norm)
    plans = (plan(settings, step) for step in range(1, settings.steps + 1))
    batches = masked_batches(*train, encoder, plans, seed=settings.seed)

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
        if step % 100 == 0 or step == settings.steps:
            curve.append((step, float(np.mean(recent))))
            tokens = step * settings.batch_size * settings.max_seq_length / (time.monotonic() - started)
            progress.set_postfix(loss=f"{curve[-1][1]:.3f}", tokens_per_s=f"{tokens:,.0f}", refresh=False)
            recent.clear()
    model.eval()
    figures = held_out_figures(model, held_out, encoder, {settings.short_seq_length, settings.max_seq_length})
    return Pretrained(model, figures, curve, time.monotonic() - started)
