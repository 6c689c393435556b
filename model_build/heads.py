"""ERNIE with a head: masked LM, sentence order, text and token classification, extractive question answering.

Shapes: B batch, S sequence, H hidden, V vocabulary, N masked positions, n texts.
"""

from __future__ import annotations

import paddle
from paddle import Tensor, nn

from model_build.config import ErnieConfig
from model_build.cpu_gradients import Dropout, LayerNorm, Linear, linear, uses_manual_gradients
from model_build.ernie import ErnieModel, activation, initialize


class TiedDecoder(nn.Layer):
    """Multiplies hidden states with the word-embedding table, which it shares with the embeddings, and adds a bias."""

    def __init__(self, embedding_weight: Tensor) -> None:
        super().__init__()
        self.weight = embedding_weight
        self.bias = self.create_parameter([embedding_weight.shape[0]], is_bias=True)

    def forward(self, hidden: Tensor) -> Tensor:
        """[N, H] -> logits [N, V]."""
        if uses_manual_gradients(self, hidden):
            return linear(hidden, self.weight, self.bias, transpose=True)
        return paddle.matmul(hidden, self.weight, transpose_y=True) + self.bias


class MaskedLMHead(nn.Layer):
    """Masked-LM head: linear layer, activation, layer norm and tied decoder, at the masked positions only."""

    def __init__(self, config: ErnieConfig, embedding_weight: Tensor) -> None:
        super().__init__()
        self.transform = Linear(config.hidden_size, config.hidden_size)
        self.activation = activation(config.hidden_act)
        self.layer_norm = LayerNorm(config.hidden_size, epsilon=config.layer_norm_eps)
        self.decoder = TiedDecoder(embedding_weight)
        self.decoder_bias = self.decoder.bias  # PaddleNLP stores the bias under both names

    def forward(self, hidden: Tensor, mask_positions: Tensor | None = None) -> Tensor:
        """hidden [B, S, H] and mask_positions int64 [N] (row * S + column) -> logits [N, V].

        Without mask_positions -> logits of all positions [B, S, V].
        """
        if mask_positions is not None:
            hidden = paddle.gather(paddle.reshape(hidden, [-1, hidden.shape[-1]]), mask_positions)
        return self.decoder(self.layer_norm(self.activation(self.transform(hidden))))


class PretrainingHeads(nn.Layer):
    """The masked-LM head and, with `sentence_order`, a linear layer of two classes on the pooled first token."""

    def __init__(self, config: ErnieConfig, embedding_weight: Tensor, *, sentence_order: bool) -> None:
        super().__init__()
        self.predictions = MaskedLMHead(config, embedding_weight)
        if sentence_order:
            self.seq_relationship = Linear(config.hidden_size, 2)


class ErnieForPretraining(nn.Layer):
    """ERNIE with the heads of pretraining: masked LM and, with `sentence_order`, sentence order."""

    def __init__(self, config: ErnieConfig, *, sentence_order: bool = True) -> None:
        super().__init__()
        self.config = config
        self.sentence_order = sentence_order
        self.ernie = ErnieModel(config)
        self.cls = PretrainingHeads(config, self.ernie.embeddings.word_embeddings.weight, sentence_order=sentence_order)
        initialize(self, config)

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None = None,
        mask_positions: Tensor | None = None,
        *,
        position_ids: Tensor | None = None,
        segment_ids: Tensor | None = None,
        cls_positions: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Ids int64 [B, S] and mask_positions int64 [N] -> masked-LM logits [N, V], sentence-order logits [B, 2].

        Sentence-order class 1 means that the segments were swapped; without that head the second result is None. Packed
        rows need position_ids [B, S], segment_ids [B, S] and cls_positions [n], and their sentence-order logits are
        [n, 2]; see `training.pretraining.masked_batches.Batch`.
        """
        hidden = self.ernie.encode(input_ids, token_type_ids, position_ids, segment_ids=segment_ids)
        predictions = self.cls.predictions(hidden, mask_positions)
        if not self.sentence_order:
            return predictions, None
        return predictions, self.cls.seq_relationship(self.ernie.pooler(hidden, cls_positions))


class ErnieForMaskedLM(nn.Layer):
    """ERNIE with the masked-LM head."""

    def __init__(self, config: ErnieConfig) -> None:
        super().__init__()
        self.config = config
        self.ernie = ErnieModel(config)
        self.cls = PretrainingHeads(config, self.ernie.embeddings.word_embeddings.weight, sentence_order=False)
        initialize(self, config)

    def forward(
        self, input_ids: Tensor, token_type_ids: Tensor | None = None, mask_positions: Tensor | None = None
    ) -> Tensor:
        """Ids int64 [B, S] and mask_positions int64 [N] -> logits [N, V]; without mask_positions [B, S, V]."""
        return self.cls.predictions(self.ernie.encode(input_ids, token_type_ids), mask_positions)


class ErnieForSequenceClassification(nn.Layer):
    """ERNIE with a classifier of texts: dropout and a linear layer on the pooled first token."""

    def __init__(self, config: ErnieConfig, num_labels: int) -> None:
        super().__init__()
        self.config = config
        self.ernie = ErnieModel(config)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.classifier = Linear(config.hidden_size, num_labels)
        initialize(self, config)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """int64 [B, S] -> logits [B, num_labels]."""
        return self.classifier(self.dropout(self.ernie(input_ids, token_type_ids)[1]))


class ErnieForTokenClassification(nn.Layer):
    """ERNIE with a classifier of tokens: dropout and a linear layer at every position."""

    def __init__(self, config: ErnieConfig, num_labels: int) -> None:
        super().__init__()
        self.config = config
        self.ernie = ErnieModel(config)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.classifier = Linear(config.hidden_size, num_labels)
        initialize(self, config)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """int64 [B, S] -> logits [B, S, num_labels]."""
        return self.classifier(self.dropout(self.ernie.encode(input_ids, token_type_ids)))


class ErnieForQuestionAnswering(nn.Layer):
    """ERNIE with a head for extractive question answering: start and end logits of the answer span."""

    def __init__(self, config: ErnieConfig) -> None:
        super().__init__()
        self.config = config
        self.ernie = ErnieModel(config)
        self.classifier = Linear(config.hidden_size, 2)
        initialize(self, config)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """int64 [B, S] -> start logits [B, S] and end logits [B, S]."""
        logits = self.classifier(self.ernie.encode(input_ids, token_type_ids))
        return logits[:, :, 0], logits[:, :, 1]
