"""The losses of distillation: on the teacher's probabilities, and on its relations between tokens.

Sources: Hinton et al., "Distilling the knowledge in a neural network" (arXiv:1503.02531) for probabilities at a
temperature; Wang et al., "MiniLMv2" (arXiv:2012.15828) for relations of queries, keys and values, which need neither
the same width nor the same number of heads; Su et al., "ERNIE-Tiny" (arXiv:2106.02241) for hidden states in addition to
attention. Shapes: B batch, S sequence, H hidden, N predictions, C classes.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from model_build.config import ErnieConfig
from model_build.ernie import ErnieEncoder
from training.distilling.settings import DistillSettings


def averaged_log_probabilities(logits: Sequence[Tensor], temperature: float) -> Tensor:
    """Logits [N, C] of each teacher -> float32 [N, C]: log of the mean of their probabilities at the temperature."""
    logs = [F.log_softmax(each.astype("float32") / temperature) for each in logits]
    if len(logs) == 1:
        return logs[0]
    return paddle.logsumexp(paddle.stack(logs), axis=0) - math.log(len(logs))


def soft_losses(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL(teacher || student) T² in nats, float32 [N], of student logits and teacher log-probabilities [N, C].

    The factor T² makes the size of the gradients independent of the temperature T (Hinton et al., section 2).
    """
    student = F.log_softmax(logits.astype("float32") / temperature)
    return _divergence(student, teacher) * temperature**2


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) over the last axis, of log-probabilities."""
    return paddle.sum(paddle.exp(teacher) * (teacher - student), axis=-1)


# Relations


@dataclass(frozen=True)
class States:
    """Inputs and projections of the self-attention of one layer."""

    hidden: Tensor
    """[B, S, H], as query, key and value"""
    query: Tensor
    key: Tensor
    value: Tensor
    attention_bias: Tensor
    """[B, 1, 1 or S, S]: 0, or -1e4 for positions that are not attended to"""


class AttentionRecorder:
    """Records the inputs of a layer's self-attention."""

    def __init__(self, attention: nn.Layer) -> None:
        self._attention = attention
        self._inputs: tuple[Any, ...] = ()

    def record(self, _: nn.Layer, inputs: tuple[Any, ...]) -> None:
        """The forward pre-hook; it does not change the inputs."""
        self._inputs = inputs

    def states(self) -> States:
        """The states of the last forward pass."""
        hidden, attention_bias = self._inputs
        # Computed again, because in training the attention computes all three projections in one product.
        query, key, value = (
            project(hidden) for project in (self._attention.q_proj, self._attention.k_proj, self._attention.v_proj)
        )
        return States(hidden, query, key, value, attention_bias)


@contextlib.contextmanager
def record_attention(encoder: ErnieEncoder, layer: int = 0) -> Iterator[AttentionRecorder]:
    """Records the inputs of a layer's self-attention in forward passes; layers count from 1, and 0 is the last one."""
    attention = encoder.layers[layer - 1 if layer else len(encoder.layers) - 1].self_attn
    seen = AttentionRecorder(attention)
    hook = attention.register_forward_pre_hook(seen.record)
    try:
        yield seen
    finally:
        hook.remove()


def relation_losses(student: States, teacher: States, heads: int, real: Tensor) -> Tensor:
    """KL(teacher || student) in nats [B, S] at every position, summed over four relations; 0 where `real` [B, S] is 0.

    A relation of states A is softmax(A Aᵀ / √d + attention bias) in each of `heads` parts of width d; its loss is the
    mean over the parts. The relations of queries, keys and values are from MiniLMv2 (section 3.1). The relation of the
    hidden states has one part; it avoids the projection that comparing states of different widths would need.
    """
    losses = paddle.zeros([])
    for name in ("query", "key", "value", "hidden"):
        parts = 1 if name == "hidden" else heads
        ours, theirs = (_log_relations(getattr(each, name), each.attention_bias, parts) for each in (student, teacher))
        losses = losses + paddle.mean(_divergence(ours, theirs), axis=1)
    return losses * real


def _log_relations(states: Tensor, attention_bias: Tensor, heads: int) -> Tensor:
    """[B, S, H] -> log-probabilities [B, heads, S, S], float32."""
    parts = paddle.transpose(paddle.reshape(states, [0, 0, heads, states.shape[-1] // heads]), [0, 2, 1, 3])
    scores = paddle.matmul(parts * parts.shape[-1] ** -0.5, parts, transpose_y=True)
    return F.log_softmax(scores.astype("float32") + attention_bias.astype("float32"))


def check_relations(settings: DistillSettings, teacher: ErnieConfig, student: ErnieConfig, where: str) -> None:
    """Raises ValueError if the relations of the two models cannot be compared; `where` names the teacher."""
    if settings.teacher_layer > teacher.num_hidden_layers:
        raise ValueError(
            f"--teacher-layer {settings.teacher_layer} is too large: {where} has {teacher.num_hidden_layers} layers."
        )
    widths = teacher.hidden_size, student.hidden_size
    if any(width % settings.relation_heads for width in widths):
        raise ValueError(
            f"--relation-heads {settings.relation_heads} must divide both widths, {widths[0]} of {where} and "
            f"{widths[1]} of the student; use {math.gcd(*widths)} or one of its divisors."
        )
