"""Classification finetuning: one readable loop, best epoch by accuracy on the development set."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from tqdm import tqdm

from model_build.config import ErnieConfig
from model_build.heads import ErnieForSequenceClassification
from model_build.weights import load_state
from training.optimization import adamw, gradient_norm, learning_rate, scale_gradients
from training.settings import FinetuneSettings
from training.tokens import Encoder, pad_batch

Encoded = tuple[list[int], int]
"""Ids with special tokens, and the label's index."""


def encode(texts: Sequence[str], labels: Sequence[int], encoder: Encoder, max_seq_length: int) -> list[Encoded]:
    """[CLS] text [SEP], cut to `max_seq_length`."""
    return [
        ([encoder.cls, *encoder.pieces(text)[: max_seq_length - 2], encoder.sep], label)
        for text, label in zip(texts, labels, strict=True)
    ]


def _batches(examples: list[Encoded], size: int, rng: np.random.Generator | None) -> list[list[Encoded]]:
    """Batches of similar length: shuffled, sorted inside chunks of 50 batches, the batches shuffled."""
    if rng is None:
        ordered = sorted(examples, key=lambda example: len(example[0]))
        return [ordered[start : start + size] for start in range(0, len(ordered), size)]
    shuffled = [examples[index] for index in rng.permutation(len(examples))]
    batches: list[list[Encoded]] = []
    for start in range(0, len(shuffled), size * 50):
        batches += _batches(shuffled[start : start + size * 50], size, None)
    return [batches[index] for index in rng.permutation(len(batches))]


@paddle.no_grad()
def accuracy(model: ErnieForSequenceClassification, examples: list[Encoded], pad: int) -> float:
    """Share of `examples` whose highest logit is the label's; leaves the model in eval mode."""
    model.eval()
    right = 0
    for batch in _batches(examples, 64, None):
        best = model(paddle.to_tensor(pad_batch([ids for ids, _ in batch], pad))).argmax(axis=-1).numpy()
        right += int((best == np.array([label for _, label in batch])).sum())
    return right / len(examples)


@dataclasses.dataclass
class Finetuned:
    """The best epoch's model, and loss and development accuracy of every epoch."""

    model: ErnieForSequenceClassification
    history: list[dict[str, float]]


def finetune(
    config: ErnieConfig,
    settings: FinetuneSettings,
    num_labels: int,
    train: list[Encoded],
    development: list[Encoded],
    pad: int,
    pretrained: dict[str, Any] | None,
) -> Finetuned:
    """Trains a classifier from `pretrained` weights (None: from scratch) and returns its best epoch."""
    paddle.seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    shape = dataclasses.replace(
        config, hidden_dropout_prob=settings.dropout, attention_probs_dropout_prob=settings.dropout
    )
    model = ErnieForSequenceClassification(shape, num_labels)
    if pretrained is not None:
        load_state(model, pretrained, new_heads=("classifier.",))
    steps = settings.epochs * -(-len(train) // settings.batch_size)
    parameters, optimizer, step = model.parameters(), adamw(model, weight_decay=0.01, beta2=0.98), 0
    best, best_state = -1.0, {}
    history: list[dict[str, float]] = []
    for epoch in range(1, settings.epochs + 1):
        progress = tqdm(
            _batches(train, settings.batch_size, rng), desc=f"finetune, epoch {epoch}", unit="step", mininterval=5
        )
        model.train()
        losses = []
        for batch in progress:
            logits = model(paddle.to_tensor(pad_batch([ids for ids, _ in batch], pad)))
            loss = F.cross_entropy(logits, paddle.to_tensor([label for _, label in batch]))
            loss.backward()
            step += 1
            peak = settings.learning_rate
            optimizer.set_lr(
                learning_rate(step, peak=peak, minimum=peak / 100, warmup_steps=max(1, steps // 10), decay_steps=steps)
            )
            scale_gradients(parameters, min(1.0, 1.0 / gradient_norm(parameters)))
            optimizer.step()
            optimizer.clear_grad()
            losses.append(float(loss))
        score = accuracy(model, development, pad)
        history.append({"epoch": epoch, "loss": float(np.mean(losses)), "development_accuracy": score})
        if score > best:
            best, best_state = score, {name: value.numpy() for name, value in model.state_dict().items()}
    load_state(model, best_state)
    model.eval()
    return Finetuned(model, history)
