"""Extractive question answering: finds the answer to a question as a span of a context, as in CMRC 2018 and DRCD."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from model_build.config import ErnieConfig
from model_build.heads import ErnieForQuestionAnswering
from training.datasets.examples import Question, TaskName
from training.tasks.metrics import answer_scores
from training.tasks.task import PUSHED_OUT, Predicted, Row, TaskBatch
from training.tasks.tokenizer import Tokenizer

log = logging.getLogger(__name__)

MAX_QUERY_LENGTH = 64
"""Largest number of question tokens, as in BERT; longer questions are cut."""
NONE = float("-inf")


@dataclass(frozen=True)
class ContextRow(Row):
    """[CLS] question [SEP] window of the context [SEP]."""

    offsets: list[tuple[int, int]]
    """start and end character in the context of each token of the window"""
    middle: list[bool]
    """for each token of the window: whether no other window has more context around it"""
    span: tuple[int, int]
    """positions of the first and the last token of the answer; (0, 0), which is [CLS], if it is not in the window"""


class QuestionAnswering:
    """Predicts start and end of the answer; a context too long for the model is read in windows.

    The windows start `doc_stride` tokens apart, at most half a window: without overlap, no window would contain an
    answer that crosses an edge.

    Source: Devlin et al., "BERT" (arXiv:1810.04805), section 4.2, and its code for long contexts.
    """

    name: TaskName = "question-answering"
    labels: Sequence[str] = ()
    metrics: Sequence[str] = ("f1", "exact_match")

    def __init__(
        self,
        tokenizer: Tokenizer,
        max_seq_length: int,
        doc_stride: int = 128,
        max_answer_length: int = 30,
        best: int = 20,
    ) -> None:
        """`best` starts and ends of each window are combined; an answer has at most `max_answer_length` tokens."""
        self._tokenizer, self.max_seq_length = tokenizer, max_seq_length
        self.doc_stride, self.max_answer_length, self._best = doc_stride, max_answer_length, best

    def rows(self, examples: Sequence[Question]) -> list[ContextRow]:
        return [row for index, question in enumerate(examples) for row in self._windows(index, question)]

    def training_rows(self, examples: Sequence[Question]) -> list[ContextRow]:
        """The rows of questions with an answer in some window; the other questions have no valid target."""
        rows = self.rows(examples)
        answered = {row.example for row in rows if row.span != (0, 0)}
        if not answered:
            raise ValueError(
                "no training question has an answer inside a window of its context; check answer_start, or raise "
                "--max-seq-length."
            )
        placed = sum(any(each.start is not None for each in question.answers) for question in examples)
        if len(answered) < len(examples):
            log.info(
                "%d of the %d train questions are not used: for %d the answer does not occur in the context, for %d no "
                "window contains it",
                len(examples) - len(answered), len(examples), len(examples) - placed, placed - len(answered),
            )  # fmt: skip
        return [row for row in rows if row.example in answered]

    def _windows(self, index: int, question: Question) -> list[ContextRow]:
        query = self._tokenizer.pieces(question.question)[: min(MAX_QUERY_LENGTH, self.max_seq_length // 2)]
        context = self._tokenizer.encode(question.context, add_special_tokens=False)
        ids, offsets = context.ids, context.offsets
        room = self.max_seq_length - len(query) - 3
        stride = max(1, min(self.doc_stride, room // 2))
        starts = list(range(0, max(1, len(ids) - room + stride), stride))
        margins = [_margins(start, min(start + room, len(ids)), len(ids)) for start in starts]
        best = np.max(margins, axis=0)
        answer = self._answer(question, offsets)
        head = [self._tokenizer.cls, *query, self._tokenizer.sep]
        found = []
        for start, margin in zip(starts, margins, strict=True):
            stop = min(start + room, len(ids))
            span = (0, 0)
            if answer and start <= answer[0] and answer[1] < stop:
                span = (len(head) + answer[0] - start, len(head) + answer[1] - start)
            row = [*head, *ids[start:stop], self._tokenizer.sep]
            middle = (margin == best)[start:stop].tolist()
            found.append(ContextRow(index, row, len(head), offsets[start:stop], middle, span))
        return found

    def _answer(self, question: Question, offsets: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
        """Indexes of the first and the last token of the first answer with a start; None if no answer has one."""
        placed = [(each.start, each.start + len(each.text)) for each in question.answers if each.start is not None]
        if not placed:
            return None
        start, stop = placed[0]
        inside = [index for index, (begin, end) in enumerate(offsets) if begin < stop and end > start]
        return (inside[0], inside[-1]) if inside else None

    def model(self, config: ErnieConfig) -> ErnieForQuestionAnswering:
        return ErnieForQuestionAnswering(config)

    def loss(self, model: nn.Layer, batch: TaskBatch) -> Tensor:
        return self.loss_of(self.scores(model, batch), batch)

    def scores(self, model: nn.Layer, batch: TaskBatch) -> tuple[Tensor, Tensor]:
        """Start and end logits [B, S]."""
        starts, ends = model(paddle.to_tensor(batch.input_ids), paddle.to_tensor(batch.token_type_ids))
        return starts, ends

    def loss_of(self, scores: tuple[Tensor, ...], batch: TaskBatch) -> Tensor:
        spans = paddle.to_tensor([row.span for row in batch.rows])
        starts, ends = scores
        return (F.cross_entropy(starts, spans[:, 0]) + F.cross_entropy(ends, spans[:, 1])) / 2

    def distributions(self, scores: tuple[Tensor, ...], batch: TaskBatch) -> Predicted:
        """Two for each row, over its positions: start and end of the answer. Padding has probability 0."""
        starts, ends = scores
        lengths = np.array([len(row.input_ids) for row in batch.rows])
        padding = np.arange(starts.shape[1]) >= lengths[:, None]
        both = paddle.stack([starts, ends], axis=1).astype("float32")  # float32 also under autocast
        pushed = both + paddle.to_tensor(np.where(padding, PUSHED_OUT, 0.0).astype(np.float32)).unsqueeze(1)
        return Predicted(pushed.reshape([-1, starts.shape[1]]), [2] * len(batch.rows))

    def outputs(self, model: nn.Layer, batch: TaskBatch) -> list[tuple[np.ndarray, np.ndarray]]:
        """Start and end logits float32 [tokens of the window] of every row."""
        starts, ends = (each.numpy() for each in self.scores(model, batch))
        windows = [slice(row.second, len(row.input_ids) - 1) for row in batch.rows]
        return [(starts[index, window], ends[index, window]) for index, window in enumerate(windows)]

    def predictions(
        self,
        examples: Sequence[Question],
        rows: Sequence[ContextRow],
        outputs: Sequence[tuple[np.ndarray, np.ndarray]],
    ) -> list[dict[str, Any]]:
        """`{"id", "answer", "start", "score"}`: the best span over all windows; the score is the sum of two logits."""
        best = [(NONE, 0, 0)] * len(examples)
        for row, (starts, ends) in zip(rows, outputs, strict=True):
            score, first, last = self._best_span(row, starts, ends)
            if score > best[row.example][0]:
                best[row.example] = (score, row.offsets[first][0], row.offsets[last][1])
        return [
            {"id": each.id, "answer": each.context[begin:end], "start": begin, "score": score if end else None}
            for each, (score, begin, end) in zip(examples, best, strict=True)
        ]

    def _best_span(self, row: ContextRow, starts: np.ndarray, ends: np.ndarray) -> tuple[float, int, int]:
        """Score, first and last token of the window's best answer; the score is -inf if it has no valid answer."""
        found = (NONE, 0, 0)
        likely_ends = np.argsort(-ends, kind="stable")[: self._best]
        for first in np.argsort(-starts, kind="stable")[: self._best]:
            if row.middle[first]:
                reached = likely_ends[(likely_ends >= first) & (likely_ends < first + self.max_answer_length)]
                if len(reached):
                    found = max(found, (float(starts[first] + ends[reached[0]]), int(first), int(reached[0])))
        return found

    def figures(self, examples: Sequence[Question], predictions: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """f1 and exact_match as CMRC 2018 defines them."""
        return answer_scores(examples, {each["id"]: each["answer"] for each in predictions})


def _margins(start: int, stop: int, length: int) -> np.ndarray:
    """int64 [length]: context tokens on the shorter side of each token in the window; -1 outside the window."""
    places = np.arange(length)
    inside = (places >= start) & (places < stop)
    return np.where(inside, np.minimum(places - start, stop - 1 - places), -1)
