"""The graphs that are exported, one class for each task, with their inputs and outputs.

Shapes: B batch, S sequence, N masked positions, T targets, K top candidates.
"""

from __future__ import annotations

from collections.abc import Sequence

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from model_build.bundle import TensorSpec
from model_build.heads import ErnieForMaskedLM, ErnieForSequenceClassification, ErnieForTokenClassification
from model_build.last_layer import first_states, states_at


def _ids(name: str, dimensions: int) -> TensorSpec:
    return TensorSpec(name=name, dtype="int64", shape=[-1] * dimensions)


def _scores(name: str, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, dtype="float32", shape=list(shape))


class Graph(nn.Layer):
    """A model as it is exported, with the inputs and outputs that the manifest of its bundle lists.

    The runtimes execute `forward`. `plain` computes the same outputs with the model as it was trained; the exported
    graphs are compared with it.
    """

    input_specs: Sequence[TensorSpec] = (_ids("input_ids", 2), _ids("token_type_ids", 2))
    output_specs: Sequence[TensorSpec]

    def __init__(self, model: nn.Layer) -> None:
        super().__init__()
        self.model = model

    def plain(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The outputs that `forward` must return, computed by the trained model."""
        return self.forward(*inputs)


class LogitsGraph(Graph):
    """A text classifier; its last layer is computed only for the first token."""

    def __init__(self, model: ErnieForSequenceClassification, num_labels: int) -> None:
        super().__init__(model)
        self.output_specs = (_scores("logits", -1, num_labels),)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        """int64 [B, S] each -> logits float32 [B, num_labels]."""
        ernie = self.model.ernie
        logits = self.model.classifier(ernie.pooler.pooled(first_states(ernie, input_ids, token_type_ids)))
        return paddle.squeeze(logits, axis=1)

    def plain(self, *inputs: Tensor) -> Tensor:
        """int64 [B, S] each -> logits float32 [B, num_labels]."""
        return self.model(*inputs)


class TokenLogitsGraph(Graph):
    """A token classifier."""

    def __init__(self, model: ErnieForTokenClassification, num_labels: int) -> None:
        super().__init__(model)
        self.output_specs = (_scores("logits", -1, -1, num_labels),)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor:
        """int64 [B, S] each -> logits float32 [B, S, num_labels]."""
        return self.model(input_ids, token_type_ids)


class QuestionAnsweringGraph(Graph):
    """Extractive question answering: for every token, the logits that the answer starts or ends there."""

    output_specs = (_scores("start_logits", -1, -1), _scores("end_logits", -1, -1))

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> tuple[Tensor, Tensor]:
        """int64 [B, S] each -> start logits and end logits float32 [B, S]."""
        start, end = self.model(input_ids, token_type_ids)
        return start, end


class FillMaskGraph(Graph):
    """A masked LM that returns the top candidates and the scores of given targets, not of the whole vocabulary."""

    input_specs = (*Graph.input_specs, _ids("mask_positions", 1), _ids("target_ids", 2))

    def __init__(self, model: ErnieForMaskedLM, num_tokens: int, top_candidates: int) -> None:
        super().__init__(model)
        self.output_specs = (
            TensorSpec(name="top_ids", dtype="int64", shape=[-1, top_candidates]),
            _scores("top_scores", -1, top_candidates),
            _scores("target_scores", -1, -1),
        )
        self.num_tokens = num_tokens
        self.top_candidates = top_candidates

    def forward(
        self, input_ids: Tensor, token_type_ids: Tensor, mask_positions: Tensor, target_ids: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """ids [B, S], mask_positions [N] (row * S + column) and target_ids [N, T], all int64.

        -> top_ids int64 [N, K], top_scores float32 [N, K] (probabilities) and target_scores float32 [N, T].
        """
        states = states_at(self.model.ernie, input_ids, token_type_ids, mask_positions)
        return self._candidates(paddle.squeeze(self.model.cls.predictions(states), axis=0), target_ids)

    def plain(self, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The inputs and outputs of `forward`."""
        *ids_and_positions, target_ids = inputs
        return self._candidates(self.model(*ids_and_positions), target_ids)

    def _candidates(self, logits: Tensor, target_ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # The embedding table may have more rows than the vocabulary has tokens; their logits are removed.
        scores = F.softmax(logits[:, : self.num_tokens])
        top_scores, top_ids = paddle.topk(scores, self.top_candidates, axis=-1)
        return top_ids, top_scores, paddle.index_sample(scores, target_ids)
