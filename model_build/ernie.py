"""The ERNIE model without a head: embeddings, post-LN encoder and pooler.

The architecture is BERT's (Devlin et al., 2018) as used by ERNIE 1.0 (Sun et al., 2019, arXiv:1904.09223), with the
task-type embedding of ERNIE 2.0 (arXiv:1907.12412). Parameters have the names and shapes of PaddleNLP's, so that its
`.pdparams` files can be loaded. Shapes: B batch, S sequence, H hidden.
"""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from paddle.distributed.fleet.utils import recompute

from model_build.config import ErnieConfig
from model_build.cpu_gradients import GELU, Dropout, LayerNorm, Linear, attention, linear, uses_manual_gradients


def activation(name: str) -> nn.Layer:
    """The activation `relu` or `gelu` as a layer."""
    return nn.ReLU() if name == "relu" else GELU()


class ErnieEmbeddings(nn.Layer):
    """The normalised sum of word, position, token-type and (if `use_task_id`) task-type embeddings."""

    def __init__(self, config: ErnieConfig) -> None:
        super().__init__()
        self.config = config
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        if config.use_task_id:
            self.task_type_embeddings = nn.Embedding(config.task_type_vocab_size, config.hidden_size)
        self.layer_norm = LayerNorm(config.hidden_size, epsilon=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None,
        position_ids: Tensor | None,
        task_type_ids: Tensor | None,
    ) -> Tensor:
        """int64 [B, S] each -> [B, S, H].

        None means positions 0 … S - 1, token type 0 and task `config.task_id`.
        """
        if position_ids is None:
            ones = paddle.ones_like(input_ids)
            position_ids = paddle.cumsum(ones, axis=1) - ones
        if token_type_ids is None:
            token_type_ids = paddle.zeros_like(input_ids)
        # With padding_idx, Paddle writes a second, masked copy of the table into exported graphs. Outside training a
        # lookup without it gives the same outputs, because no token and no head reads a padding position.
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
        """hidden [B, S, H] and attention_bias [B, 1, 1 or S, S], see `ErnieModel.attention_bias` -> [B, S, H]."""
        return self.out_proj(self.context(hidden, attention_bias))

    def context(self, hidden: Tensor, attention_bias: Tensor) -> Tensor:
        """The attention output before the output projection, all heads concatenated: [B, S, H]."""
        if uses_manual_gradients(self, hidden):  # same result as the code below, with less memory traffic
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
        self.norm1 = LayerNorm(config.hidden_size, epsilon=config.layer_norm_eps)
        self.norm2 = LayerNorm(config.hidden_size, epsilon=config.layer_norm_eps)
        self.activation = activation(config.hidden_act)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: Tensor, attention_bias: Tensor) -> Tensor:
        """[B, S, H] -> [B, S, H]."""
        return self.after_attention(hidden, self.self_attn(hidden, attention_bias))

    def after_attention(self, hidden: Tensor, attended: Tensor) -> Tensor:
        """The part of the layer that treats each token separately.

        hidden [..., H] and attended [..., H], the output of the attention -> [..., H].
        """
        hidden = self.norm1(hidden + self.dropout(attended))
        return self.norm2(hidden + self.dropout(self.linear2(self.activation(self.linear1(hidden)))))


class ErnieEncoder(nn.Layer):
    """The stack of encoder layers."""

    def __init__(self, config: ErnieConfig) -> None:
        super().__init__()
        self.layers = nn.LayerList([ErnieLayer(config) for _ in range(config.num_hidden_layers)])
        self.recompute = False
        """In training, store only the inputs of the layers and compute the rest again for the gradients."""

    def forward(self, hidden: Tensor, attention_bias: Tensor) -> Tensor:
        """[B, S, H] -> [B, S, H]."""
        for layer in self.layers:
            if self.recompute and self.training:
                hidden = recompute(layer, hidden, attention_bias)
            else:
                hidden = layer(hidden, attention_bias)
        return hidden


class ErniePooler(nn.Layer):
    """tanh of a linear layer on the hidden state of the first token, [CLS]."""

    def __init__(self, config: ErnieConfig) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor, cls_positions: Tensor | None = None) -> Tensor:
        """[B, S, H] -> [B, H].

        For packed rows, cls_positions int64 [n] (row * S + column) gives the first token of each text -> [n, H].
        """
        if cls_positions is None:
            first = hidden[:, 0]
        else:
            first = paddle.gather(paddle.reshape(hidden, [-1, hidden.shape[-1]]), cls_positions)
        return self.pooled(first)

    def pooled(self, first: Tensor) -> Tensor:
        """The hidden state of the first token [..., H] -> [..., H]."""
        return paddle.tanh(self.dense(first))


class ErnieModel(nn.Layer):
    """Embeddings, encoder and pooler, without a head."""

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
        """int64 [B, S] each -> hidden states [B, S, H]. No token attends to a position with the pad id.

        In packed rows, segment_ids int64 [B, S] gives each text of a row its own number, and padding 0. A token then
        attends only to tokens with the same number.
        """
        bias = self.attention_bias(input_ids, segment_ids)
        return self.encoder(self.embeddings(input_ids, token_type_ids, position_ids, task_type_ids), bias)

    def attention_bias(self, input_ids: Tensor, segment_ids: Tensor | None = None) -> Tensor:
        """Added to the attention scores: -1e4 for a key that must be ignored, 0 for others.

        [B, 1, 1, S], or [B, 1, S, S] with segment_ids.
        """
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
        """int64 [B, S] each -> hidden states [B, S, H] and the pooled first token [B, H]."""
        hidden = self.encode(input_ids, token_type_ids, position_ids, task_type_ids)
        return hidden, self.pooler(hidden)


def initialize(model: nn.Layer, config: ErnieConfig) -> None:
    """Initialises all weight matrices and tables as BERT does, from a normal distribution.

    Its standard deviation is `config.initializer_range`. The row of the pad id becomes zero. Biases, which Paddle
    creates as zero, are not changed.
    """
    for layer in model.sublayers():
        if isinstance(layer, nn.Linear | nn.Embedding):
            weight = paddle.normal(0.0, config.initializer_range, layer.weight.shape)
            if isinstance(layer, nn.Embedding) and layer._padding_idx is not None:
                weight[layer._padding_idx] = 0.0
            layer.weight.set_value(weight)


def set_sinusoidal_positions(model: ErnieModel) -> None:
    """Initialises the position table with the sinusoids of Vaswani et al. (2017, arXiv:1706.03762).

    Their root mean square is 0.6 times the standard deviation of the word table. Neighbouring positions have similar
    vectors from the first step, so the attention learns early to find the neighbours of a token: the loss of a small
    masked LM falls below that of a unigram model (6.8 nats on Chinese characters) within 300 steps instead of
    thousands.
    """
    table = model.embeddings.position_embeddings.weight
    positions, width = table.shape
    frequencies = np.exp(-np.log(10_000.0) * np.arange(0, width, 2) / width)
    angles = np.arange(positions)[:, None] * frequencies
    sinusoids = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)[:, :width]
    # The root mean square of a sinusoid is 0.71, and 0.71 * 0.85 = 0.6.
    table.set_value((sinusoids * 0.85 * model.config.initializer_range).astype("float32"))
