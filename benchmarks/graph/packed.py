"""The classifier's graph for rows that hold several texts; see `benchmarks.graph.packing`."""

from __future__ import annotations

import paddle
from paddle import Tensor

from model_build.bundle import TensorSpec
from model_build.export import Graph
from model_build.heads import ErnieForSequenceClassification


class PackedGraph(Graph):
    """Its inputs include the position of each token in its text, and the number of the text, 0 for padding."""

    input_specs = (
        *(
            TensorSpec(name=name, dtype="int64", shape=[-1, -1])
            for name in ("input_ids", "token_type_ids", "position_ids", "segment_ids")
        ),
        TensorSpec(name="cls_positions", dtype="int64", shape=[-1]),
    )
    output_specs = (TensorSpec(name="logits", dtype="float32", shape=[-1, 2]),)

    def __init__(self, model: ErnieForSequenceClassification) -> None:
        super().__init__(model)

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor,
        position_ids: Tensor,
        segment_ids: Tensor,
        cls_positions: Tensor,
    ) -> Tensor:
        """[B, S] int64 four times and cls_positions [n] (row * S + column) -> logits [n, 2].

        As in `model_build.last_layer.states_at`, what follows the last attention is computed for first tokens alone.
        """
        ernie = self.model.ernie
        bias = ernie.attention_bias(input_ids, segment_ids)
        hidden = ernie.embeddings(input_ids, token_type_ids, position_ids, None)
        layers = list(ernie.encoder.layers)
        for layer in layers[:-1]:
            hidden = layer(hidden, bias)
        last = layers[-1]
        first, context = (
            paddle.unsqueeze(paddle.gather(paddle.reshape(each, [-1, ernie.config.hidden_size]), cls_positions), axis=0)
            for each in (hidden, last.self_attn.context(hidden, bias))
        )
        states = last.after_attention(first, last.self_attn.out_proj(context))
        return paddle.squeeze(self.model.classifier(ernie.pooler.pooled(states)), axis=0)

    def plain(self, *inputs: Tensor) -> Tensor:
        """The same from the plain encoder."""
        ids, types, positions, segments, first = inputs
        hidden = self.model.ernie.encode(ids, types, positions, segment_ids=segments)
        return self.model.classifier(self.model.ernie.pooler(hidden, first))
