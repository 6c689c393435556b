"""The last encoder layer where its answer is read, and nowhere else: the forward pass that is exported.

A classifier reads the first token of the last layer, a masked LM the masked ones. What the layer would give for all
others is not computed, so the answers are the plain model's and the work is a layer's less, or nearly. Training and
evaluation keep to `model_build.ernie`. Shapes: B batch, S sequence, H hidden, A attention heads, N masked positions.
States keep three axes: with two, ONNX Runtime makes a Gemm of a product and its bias, which it does not run in int8,
and it would turn the weights into floats again for every batch.
"""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor

from model_build.ernie import ErnieAttention, ErnieModel


def first_states(ernie: ErnieModel, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
    """[B, S] int64 each -> hidden states of the first tokens [B, 1, H]."""
    hidden, bias = _before_last(ernie, input_ids, token_type_ids)
    layer = ernie.encoder.layers[-1]
    first = hidden[:, :1]
    return layer.after_attention(first, layer.self_attn.out_proj(first_context(layer.self_attn, first, hidden, bias)))


def states_at(ernie: ErnieModel, input_ids: Tensor, token_type_ids: Tensor, positions: Tensor) -> Tensor:
    """[B, S] int64 each, positions int64 [N] (row * S + column) -> hidden states there [1, N, H].

    The attention is computed for every token: for the masked ones alone it would take a copy of their whole text for
    each, and one request may have hundreds.
    """
    hidden, bias = _before_last(ernie, input_ids, token_type_ids)
    layer = ernie.encoder.layers[-1]
    chosen, context = (
        paddle.unsqueeze(paddle.gather(paddle.reshape(states, [-1, ernie.config.hidden_size]), positions), axis=0)
        for states in (hidden, layer.self_attn.context(hidden, bias))
    )
    return layer.after_attention(chosen, layer.self_attn.out_proj(context))


def _before_last(ernie: ErnieModel, input_ids: Tensor, token_type_ids: Tensor) -> tuple[Tensor, Tensor]:
    """What the last layer is given: hidden states [B, S, H] and the attention bias [B, 1, 1, S]."""
    bias = ernie.attention_bias(input_ids)
    hidden = ernie.embeddings(input_ids, token_type_ids, None, None)
    for layer in list(ernie.encoder.layers)[:-1]:
        hidden = layer(hidden, bias)
    return hidden, bias


def first_context(attention: ErnieAttention, first: Tensor, hidden: Tensor, bias: Tensor) -> Tensor:
    """What the first token attends to [B, 1, H], of the first states [B, 1, H] and all [B, S, H].

    Products of matrices may be taken in any order. With one query q a text, q · (W h) is (q W) · h, and the weighted
    sum of all values is the value of the weighted sum; so no token has a key or a value of its own. The keys' bias adds
    the same to the scores of every token, which softmax takes out again.
    """
    own = _own_features(attention)
    query = attention.q_proj(first) * attention.head_dim**-0.5 * own  # [B, A, H]
    looked_for = paddle.matmul(query, attention.k_proj.weight, transpose_y=True)  # [B, A, H]
    weights = F.softmax(paddle.matmul(looked_for, hidden, transpose_y=True) + paddle.squeeze(bias, axis=1))
    return paddle.sum(attention.v_proj(paddle.matmul(weights, hidden)) * own, axis=1, keepdim=True)


def _own_features(attention: ErnieAttention) -> Tensor:
    """[A, H]: 1 where a feature belongs to the head, 0 elsewhere."""
    return paddle.to_tensor(np.kron(np.eye(attention.num_heads), np.ones(attention.head_dim)).astype(np.float32))
