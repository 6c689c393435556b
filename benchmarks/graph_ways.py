"""The classifier written down in the ways that `benchmarks.graph_variants` compares."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from benchmarks.graph_variants import Way
from model_build.bundle import TensorSpec
from model_build.ernie import ErnieAttention
from model_build.export import Graph
from model_build.heads import ErnieForSequenceClassification
from model_build.last_layer import first_context


def linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A layer with parameters of its own."""
    made = nn.Linear(*weight.shape)
    made.weight.set_value(weight)
    made.bias.set_value(bias)
    return made


class Variant(Graph):
    """The classifier, written down that way."""

    def __init__(self, model: ErnieForSequenceClassification, way: Way) -> None:
        super().__init__(model)
        config = self.config = model.config
        self.way, self.heads = way, config.num_attention_heads
        self.width = config.hidden_size // config.num_attention_heads
        self.scale = self.width**-0.5
        self.input_specs = [
            TensorSpec(name=each, dtype=way.integers, shape=[-1, -1]) for each in ("input_ids", "token_type_ids")
        ]
        self.output_specs = [TensorSpec(name="logits", dtype="float32", shape=[-1, 2])]
        layers = list(model.ernie.encoder.layers)
        self.layers = layers[:-1] if way.last != "whole" else layers
        self.projections = nn.LayerList([self.projection(each.self_attn) for each in self.layers])
        if way.one_table:
            tables = model.ernie.embeddings
            pairs = tables.token_type_embeddings.weight.unsqueeze(1) + tables.position_embeddings.weight
            pairs = pairs + tables.task_type_embeddings.weight[config.task_id]
            self.pairs = nn.Embedding(pairs.shape[0] * pairs.shape[1], config.hidden_size)
            self.pairs.weight.set_value(pairs.reshape([-1, config.hidden_size]))

    def projection(self, attention: ErnieAttention) -> nn.Layer:
        """Q, K and V as layers."""
        three = [attention.q_proj, attention.k_proj, attention.v_proj]
        if self.way.scaled:
            three[0] = linear(three[0].weight * self.scale, three[0].bias * self.scale)
        if self.way.joined:
            return linear(paddle.concat([x.weight for x in three], 1), paddle.concat([x.bias for x in three]))
        return nn.LayerList(three)

    def embedded(self, ids: Tensor, types: Tensor) -> Tensor:
        """[B, S, H]."""
        tables = self.model.ernie.embeddings
        if self.way.one_table:
            ones = paddle.ones_like(ids)
            places = paddle.cumsum(ones, axis=1) - ones + types * self.config.max_position_embeddings
            words = F.embedding(ids, tables.word_embeddings.weight)
            return tables.layer_norm(words + self.pairs(places))
        if self.way.positions == "cumsum":
            return tables(ids, types, None, None)
        length = paddle.shape(ids)[1]
        if self.way.positions == "range":
            places = tables.position_embeddings(paddle.arange(length).unsqueeze(0))
        else:
            places = tables.position_embeddings.weight[:length].unsqueeze(0)
        summed = F.embedding(ids, tables.word_embeddings.weight) + places + tables.token_type_embeddings(types)
        return tables.layer_norm(summed + tables.task_type_embeddings.weight[self.config.task_id])

    def context(self, projection: nn.Layer, hidden: Tensor, bias: Tensor) -> Tensor:
        """Attention of every token."""
        made = (
            paddle.split(projection(hidden), 3, -1) if self.way.joined else [project(hidden) for project in projection]
        )
        query, key, value = (each.reshape([0, 0, self.heads, self.width]).transpose([0, 2, 1, 3]) for each in made)
        scores = paddle.matmul(query if self.way.scaled else query * self.scale, key, transpose_y=True) + bias
        return paddle.matmul(F.softmax(scores), value).transpose([0, 2, 1, 3]).reshape([0, 0, self.heads * self.width])

    def last(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """The first token's state [B, 1, H]."""
        layer = self.model.ernie.encoder.layers[-1]
        attention, first = layer.self_attn, hidden[:, :1]
        if self.way.last == "first token":
            found = first_context(attention, first, hidden, bias)
        else:
            query, key, value = (
                project(states).reshape([0, 0, self.heads, self.width]).transpose([0, 2, 1, 3])
                for project, states in (
                    (attention.q_proj, first), (attention.k_proj, hidden), (attention.v_proj, hidden)
                )
            )  # fmt: skip
            weights = F.softmax(paddle.matmul(query * self.scale, key, transpose_y=True) + bias)
            found = paddle.matmul(weights, value).transpose([0, 2, 1, 3]).reshape([0, 0, self.heads * self.width])
        return layer.after_attention(first, attention.out_proj(found))

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        """[B, S] each -> logits or probabilities [B, 2]."""
        hidden, bias = self.embedded(input_ids, token_type_ids), self.model.ernie.attention_bias(input_ids)
        for layer, projection in zip(self.layers, self.projections):  # noqa: B905 - Paddle's tracer knows no `strict`
            hidden = layer.after_attention(hidden, layer.self_attn.out_proj(self.context(projection, hidden, bias)))
        first = hidden[:, :1] if self.way.last == "whole" else self.last(hidden, bias)
        logits = paddle.squeeze(self.model.classifier(self.model.ernie.pooler.pooled(first)), axis=1)
        return F.softmax(logits) if self.way.probabilities else logits

    def plain(self, *inputs: Tensor) -> Tensor:
        """The model's own answer."""
        logits = self.model(*(each.astype("int64") for each in inputs))
        return F.softmax(logits) if self.way.probabilities else logits
