"""Token classification: one tag for each token of a sentence, such as the entities of MSRA NER."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from model_build.config import ErnieConfig
from model_build.heads import ErnieForTokenClassification
from training.datasets.examples import TaggedSentence, TaskName
from training.datasets.tag_schemes import Scheme
from training.tasks.metrics import entity_scores
from training.tasks.task import Predicted, Row, TaskBatch
from training.tasks.tokenizer import Tokenizer

IGNORED = -100
"""Target of ignored positions: special tokens, padding, and the pieces of a token after its first piece."""


@dataclass(frozen=True)
class TaggedRow(Row):
    """A window of a sentence."""

    first: int
    """index of the row's first token in the sentence"""
    heads: list[int]
    """position of each token's first piece"""
    tags: list[int]
    """label index of each token; IGNORED for a tag that is not a label"""


class TokenClassification:
    """Predicts the tag of a token at its first piece. A sentence too long for the model is read in windows.

    Windows overlap by a quarter; a token gets its tag from the window in which it is farthest from an edge.
    """

    name: TaskName = "token-classification"
    metrics: Sequence[str] = ("f1", "precision", "recall")

    def __init__(self, tokenizer: Tokenizer, labels: Sequence[str], max_seq_length: int, scheme: Scheme) -> None:
        """`scheme` defines which tags form an entity; the labels alone do not distinguish BIO from IOB1."""
        self.labels = labels
        self._tokenizer, self._max_seq_length = tokenizer, max_seq_length
        self.scheme = scheme
        self._index = {label: index for index, label in enumerate(labels)}

    def rows(self, examples: Sequence[TaggedSentence]) -> list[TaggedRow]:
        return [row for index, sentence in enumerate(examples) for row in self._windows(index, sentence)]

    training_rows = rows

    def _windows(self, index: int, sentence: TaggedSentence) -> list[TaggedRow]:
        # A token without pieces, such as a blank, is still a token of the sentence and has a tag.
        pieces = [self._tokenizer.pieces(token) or [self._tokenizer.unknown] for token in sentence.tokens]
        tags = [self._index.get(tag, IGNORED) for tag in sentence.tags]
        room = self._max_seq_length - 2
        found, first = [], 0
        while True:
            last, taken = first, 0
            while last < len(pieces) and taken + len(pieces[last]) <= room:
                taken += len(pieces[last])
                last += 1
            last = max(last, first + 1)  # a token with more pieces than a row can hold is cut
            found.append(self._row(index, first, pieces[first:last], tags[first:last]))
            if last == len(pieces):
                return found
            first = max(first + 1, last - (last - first) // 4)

    def _row(self, index: int, first: int, pieces: Sequence[list[int]], tags: list[int]) -> TaggedRow:
        heads = [1 + start for start in np.cumsum([0, *map(len, pieces)])[:-1].tolist()]
        body = [piece for token in pieces for piece in token][: self._max_seq_length - 2]
        ids = [self._tokenizer.cls, *body, self._tokenizer.sep]
        return TaggedRow(index, ids, len(ids), first, heads, tags)

    def model(self, config: ErnieConfig) -> ErnieForTokenClassification:
        return ErnieForTokenClassification(config, len(self.labels))

    def loss(self, model: nn.Layer, batch: TaskBatch) -> Tensor:
        return self.loss_of(self.scores(model, batch), batch)

    def scores(self, model: nn.Layer, batch: TaskBatch) -> tuple[Tensor]:
        """Logits [B, S, labels]."""
        return (model(paddle.to_tensor(batch.input_ids), paddle.to_tensor(batch.token_type_ids)),)

    def loss_of(self, scores: tuple[Tensor, ...], batch: TaskBatch) -> Tensor:
        targets = np.full(batch.input_ids.shape, IGNORED, dtype=np.int64)
        for index, row in enumerate(batch.rows):
            targets[index, row.heads] = row.tags
        logits = scores[0].reshape([-1, len(self.labels)])
        return F.cross_entropy(logits, paddle.to_tensor(targets.reshape(-1)), ignore_index=IGNORED)

    def distributions(self, scores: tuple[Tensor, ...], batch: TaskBatch) -> Predicted:
        """One for each token, at its first piece."""
        width = batch.input_ids.shape[1]
        heads = [index * width + head for index, row in enumerate(batch.rows) for head in row.heads]
        logits = paddle.gather(scores[0].reshape([-1, len(self.labels)]), paddle.to_tensor(heads))
        return Predicted(logits, [len(row.heads) for row in batch.rows])

    def outputs(self, model: nn.Layer, batch: TaskBatch) -> list[np.ndarray]:
        """The label index of the most probable tag, int64 [tokens], for each row."""
        best = self.scores(model, batch)[0].argmax(axis=-1).numpy()
        return [best[index, row.heads] for index, row in enumerate(batch.rows)]

    def predictions(
        self, examples: Sequence[TaggedSentence], rows: Sequence[TaggedRow], outputs: Sequence[np.ndarray]
    ) -> list[dict[str, Any]]:
        """`{"tags"}`: one tag for each token."""
        tags = [[""] * len(sentence.tokens) for sentence in examples]
        margins = [[-1] * len(sentence.tokens) for sentence in examples]
        for row, best in zip(rows, outputs, strict=True):
            for place, tag in enumerate(best):
                margin, token = min(place, len(best) - 1 - place), row.first + place
                if margin > margins[row.example][token]:
                    margins[row.example][token], tags[row.example][token] = margin, self.labels[tag]
        return [{"tags": each} for each in tags]

    def figures(self, examples: Sequence[TaggedSentence], predictions: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Metrics of whole entities, as in CoNLL."""
        return entity_scores([each.tags for each in examples], [each["tags"] for each in predictions], self.scheme)
