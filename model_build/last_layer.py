"""Computes the last encoder layer only for the tokens whose hidden state is used; for exported graphs.

A classifier uses only the first token of the last layer, a masked LM only the masked tokens. The layer is not computed
for the other tokens. The outputs are those of `model_build.ernie`, which training and evaluation use, and the graph
saves almost the whole work of one layer. Shapes: B batch, S sequence, H hidden, A attention heads, N masked positions.

All hidden states keep three axes. With two axes, ONNX Runtime merges a matrix product and its bias into a Gemm node.
It does not run Gemm in int8, and would convert the weights to float again for every batch.
"""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor

from model_build.ernie import ErnieAttention, ErnieModel


def first_states(ernie: ErnieModel, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
    """int64 [B, S] each -> hidden states of the first tokens [B, 1, H]."""
    hidden, bias = _before_last(ernie, input_ids, token_type_ids)
    layer = ernie.encoder.layers[-1]
    first = hidden[:, :1]
    return layer.after_attention(first, layer.self_attn.out_proj(first_context(layer.self_attn, first, hidden, bias)))


def states_at(ernie: ErnieModel, input_ids: Tensor, token_type_ids: Tensor, positions: Tensor) -> Tensor:
    """int64 [B, S] each, positions int64 [N] (row * S + column) -> hidden states at the positions [1, N, H].

    The attention is still computed for every token, and only the feed-forward half is limited to the positions. An
    attention for the masked tokens alone would need one copy of the whole text for each of them, and one request may
    have hundreds.
    """
    hidden, bias = _before_last(ernie, input_ids, token_type_ids)
    layer = ernie.encoder.layers[-1]
    chosen, context = (
        paddle.unsqueeze(paddle.gather(paddle.reshape(states, [-1, ernie.config.hidden_size]), positions), axis=0)
        for states in (hidden, layer.self_attn.context(hidden, bias))
    )
    return layer.after_attention(chosen, layer.self_attn.out_proj(context))


def _before_last(ernie: ErnieModel, input_ids: Tensor, token_type_ids: Tensor) -> tuple[Tensor, Tensor]:
    """The inputs of the last layer: hidden states [B, S, H] and the attention bias [B, 1, 1, S]."""
    bias = ernie.attention_bias(input_ids)
    hidden = ernie.embeddings(input_ids, token_type_ids, None, None)
    for layer in list(ernie.encoder.layers)[:-1]:
        hidden = layer(hidden, bias)
    return hidden, bias


def first_context(attention: ErnieAttention, first: Tensor, hidden: Tensor, bias: Tensor) -> Tensor:
    """The attention output of the first token [B, 1, H], before the output projection.

    first [B, 1, H] is the hidden state of the first token, hidden [B, S, H] those of all tokens. Only one query q per
    text is needed, so the order of the matrix products is changed: q · (W h) = (q W) · h, and the weighted sum of the
    values equals the value projection of the weighted sum of the hidden states. No key and no value of a single token
    is computed. The bias of the keys is left out: it adds the same number to all scores, which does not change the
    softmax.
    """
    head_features = _head_features(attention)
    query = attention.q_proj(first) * attention.head_dim**-0.5 * head_features  # [B, A, H]
    key_side = paddle.matmul(query, attention.k_proj.weight, transpose_y=True)  # q W, [B, A, H]
    weights = F.softmax(paddle.matmul(key_side, hidden, transpose_y=True) + paddle.squeeze(bias, axis=1))
    return paddle.sum(attention.v_proj(paddle.matmul(weights, hidden)) * head_features, axis=1, keepdim=True)


def _head_features(attention: ErnieAttention) -> Tensor:
    """float32 [A, H]: 1 if the feature belongs to the head, else 0."""
    return paddle.to_tensor(np.kron(np.eye(attention.num_heads), np.ones(attention.head_dim)).astype(np.float32))
