"""ERNIE: embeddings, post-LN encoder, pooler and heads.

The architecture is BERT's (Devlin et al., 2018) as used by ERNIE 1.0 (Sun et al., 2019, arXiv:1904.09223), with the
task-type embedding of ERNIE 2.0 (arXiv:1907.12412). Parameter names and shapes equal PaddleNLP's, so that its
`.pdparams` files load. Shapes: B batch, S sequence, H hidden, V vocabulary, N masked positions.
"""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from paddle.distributed.fleet.utils import recompute

from model_build.config import ErnieConfig
from model_build.cpu_gradients import GELU, Dropout, LayerNorm, Linear, attention, by_hand, linear

LAYER_NORM_EPSILON = 1e-12


def activation(name: str) -> nn.Layer:
    """`relu` or `gelu` as a layer."""
    return nn.ReLU() if name == "relu" else GELU()


class ErnieEmbeddings(nn.Layer):
    """Sum of word, position, token-type and (optionally) task-type embeddings, normalised."""

    def __init__(self, config: ErnieConfig) -> None:
        super().__init__()
        self.config = config
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        if config.use_task_id:
            self.task_type_embeddings = nn.Embedding(config.task_type_vocab_size, config.hidden_size)
        self.layer_norm = LayerNorm(config.hidden_size, epsilon=LAYER_NORM_EPSILON)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None,
        position_ids: Tensor | None,
        task_type_ids: Tensor | None,
    ) -> Tensor:
        """[B, S] int64 each (None: position 0…S-1, type 0, task `task_id`) -> [B, S, H]."""
        if position_ids is None:
            ones = paddle.ones_like(input_ids)
            position_ids = paddle.cumsum(ones, axis=1) - ones
        if token_type_ids is None:
            token_type_ids = paddle.zeros_like(input_ids)
        # padding_idx makes Paddle write a masked copy of the table into exported graphs. A padding position reaches
        # no other position and no head, so outside training the plain lookup gives the same answers.
        words = (
            self.word_embeddings(input_ids) if self.training else F.embedding(input_ids, self.word_embeddings.weight)
        )
        summed = words + self.position_embeddings(position_ids) + self.token_type_embeddings(token_type_ids)
        if self.config.use_task_id:
            if task_type_ids is None:
                task_type_ids = paddle.full_like(input_ids, self.config.task_id)
            summed = summed + self.task_type_embeddings(task_type_ids)
        return self.dropout(self.layer_norm(summed))


class ErnieAttention(nn.Layer):
    """Multi-head self-attention (Vaswani et al., 2017)."""

    def __init__(self, config: ErnieConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.dropout_prob = config.attention_probs_dropout_prob
        self.q_proj = Linear(config.hidden_size, config.hidden_size)
        self.k_proj = Linear(config.hidden_size, config.hidden_size)
        self.v_proj = Linear(config.hidden_size, config.hidden_size)
        self.out_proj = Linear(config.hidden_size, config.hidden_size)

    def _heads(self, states: Tensor) -> Tensor:
        return paddle.transpose(paddle.reshape(states, [0, 0, self.num_heads, self.head_dim]), [0, 2, 1, 3])

    def forward(self, hidden: Tensor, attention_bias: Tensor) -> Tensor:
        """hidden [B, S, H], attention_bias [B, 1, 1 or S, S] (0 or -1e4) -> [B, S, H]."""
        return self.out_proj(self.context(hidden, attention_bias))

    def context(self, hidden: Tensor, attention_bias: Tensor) -> Tensor:
        """The values that each token attends to, heads side by side [B, S, H]; `forward` without its projection."""
        if by_hand(self, hidden):  # what follows below, in fewer passes over memory
            projections = self.q_proj, self.k_proj, self.v_proj
            weight = paddle.concat([each.weight for each in projections], axis=1)
            bias = paddle.concat([each.bias for each in projections])
            return attention(linear(hidden, weight, bias), attention_bias, self.num_heads, self.dropout_prob)
        query, key, value = (
            self._heads(self.q_proj(hidden)),
            self._heads(self.k_proj(hidden)),
            self._heads(self.v_proj(hidden)),
        )
        scores = paddle.matmul(query * self.head_dim**-0.5, key, transpose_y=True) + attention_bias
        weights = F.dropout(F.softmax(scores), self.dropout_prob, training=self.training)
        context = paddle.transpose(paddle.matmul(weights, value), [0, 2, 1, 3])
        return paddle.reshape(context, [0, 0, self.num_heads * self.head_dim])


class ErnieLayer(nn.Layer):
    """One post-LN encoder layer: attention, add, norm; feed-forward, add, norm."""

    def __init__(self, config: ErnieConfig) -> None:
        super().__init__()
        self.self_attn = ErnieAttention(config)
        self.linear1 = Linear(config.hidden_size, config.intermediate_size)
        self.linear2 = Linear(config.intermediate_size, config.hidden_size)
        self.norm1 = LayerNorm(config.hidden_size, epsilon=LAYER_NORM_EPSILON)
        self.norm2 = LayerNorm(config.hidden_size, epsilon=LAYER_NORM_EPSILON)
        self.activation = activation(config.hidden_act)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: Tensor, attention_bias: Tensor) -> Tensor:
        """[B, S, H] -> [B, S, H]."""
        return self.after_attention(hidden, self.self_attn(hidden, attention_bias))

    def after_attention(self, hidden: Tensor, attended: Tensor) -> Tensor:
        """What is done for each token by itself: its hidden state [..., H] and its attention's output -> [..., H]."""
        hidden = self.norm1(hidden + self.dropout(attended))
        return self.norm2(hidden + self.dropout(self.linear2(self.activation(self.linear1(hidden)))))


class ErnieEncoder(nn.Layer):
    """The stack of layers."""

    def __init__(self, config: ErnieConfig) -> None:
        super().__init__()
        self.layers = nn.LayerList([ErnieLayer(config) for _ in range(config.num_hidden_layers)])
        self.recompute = False
        """in training, keep the layers' inputs only and compute the rest again for the gradients"""

    def forward(self, hidden: Tensor, attention_bias: Tensor) -> Tensor:
        for layer in self.layers:
            if self.recompute and self.training:
                hidden = recompute(layer, hidden, attention_bias)
            else:
                hidden = layer(hidden, attention_bias)
        return hidden


class ErniePooler(nn.Layer):
    """tanh(Linear(first token))."""

    def __init__(self, config: ErnieConfig) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor, cls_positions: Tensor | None = None) -> Tensor:
        """[B, S, H] -> [B, H]; where rows hold several texts, cls_positions [n] int64 (row * S + column) -> [n, H]."""
        if cls_positions is None:
            first = hidden[:, 0]
        else:
            first = paddle.gather(paddle.reshape(hidden, [-1, hidden.shape[-1]]), cls_positions)
        return self.pooled(first)

    def pooled(self, first: Tensor) -> Tensor:
        """Of the first token alone: [..., H] -> [..., H]."""
        return paddle.tanh(self.dense(first))


class ErnieModel(nn.Layer):
    """The encoder without a head."""

    def __init__(self, config: ErnieConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = ErnieEmbeddings(config)
        self.encoder = ErnieEncoder(config)
        self.pooler = ErniePooler(config)

    def encode(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        task_type_ids: Tensor | None = None,
        segment_ids: Tensor | None = None,
    ) -> Tensor:
        """Hidden states [B, S, H]; positions holding the pad id are not attended to.

        segment_ids [B, S] int64 number the texts of packed rows, 0 for padding: tokens attend to their own text only.
        """
        bias = self.attention_bias(input_ids, segment_ids)
        return self.encoder(self.embeddings(input_ids, token_type_ids, position_ids, task_type_ids), bias)

    def attention_bias(self, input_ids: Tensor, segment_ids: Tensor | None = None) -> Tensor:
        """-1e4 where a token is not attended to, 0 elsewhere: [B, 1, 1, S], or [B, 1, S, S] of packed rows."""
        dtype = self.pooler.dense.weight.dtype
        if segment_ids is None:
            hidden_from = paddle.unsqueeze((input_ids == self.config.pad_token_id).astype(dtype), axis=[1, 2])
        else:
            apart = paddle.unsqueeze(segment_ids, axis=2) != paddle.unsqueeze(segment_ids, axis=1)
            hidden_from = paddle.unsqueeze(apart.astype(dtype), axis=1)
        return hidden_from * -1e4

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        task_type_ids: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """[B, S] int64 -> hidden states [B, S, H] and pooled first token [B, H]."""
        hidden = self.encode(input_ids, token_type_ids, position_ids, task_type_ids)
        return hidden, self.pooler(hidden)


def initialize(model: nn.Layer, config: ErnieConfig) -> None:
    """BERT's initialisation: matrices from a normal distribution, the row of the pad id and biases zero."""
    for layer in model.sublayers():
        if isinstance(layer, nn.Linear | nn.Embedding):
            weight = paddle.normal(0.0, config.initializer_range, layer.weight.shape)
            if isinstance(layer, nn.Embedding) and layer._padding_idx is not None:
                weight[layer._padding_idx] = 0.0
            layer.weight.set_value(weight)


def set_sinusoidal_positions(model: ErnieModel) -> None:
    """Starts the learned position table from the sinusoids of arXiv:1706.03762, with 0.6 of the words' spread.

    Neighbouring positions look alike from the first step, so attention finds a token's neighbours early: a small
    masked LM leaves the unigram plateau (6.8 nats on Chinese characters) within 300 steps instead of thousands.
    """
    table = model.embeddings.position_embeddings.weight
    positions, width = table.shape
    frequencies = np.exp(-np.log(10_000.0) * np.arange(0, width, 2) / width)
    angles = np.arange(positions)[:, None] * frequencies
    sinusoids = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)[:, :width]
    # The root mean square of a sinusoid is 0.71.
    table.set_value((sinusoids * 0.85 * model.config.initializer_range).astype("float32"))
