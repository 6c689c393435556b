"""The answers of a bundle without the service: its ONNX graph in ONNX Runtime, one text at a time, fed by `tokenizers`.

Nothing of it is shared with the service but the rule by which a long text is cut into windows.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import BertWordPieceTokenizer

from service.windows import spans

SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]")


class OfflineModel:
    """A classifier or a masked LM."""

    def __init__(self, bundle: Path) -> None:
        manifest = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
        self.max_length = int(manifest["max_length"])
        self.labels: list[str] = manifest["labels"]
        self.vocabulary = (bundle / "vocab.txt").read_text(encoding="utf-8").splitlines()
        self._tokenizer = BertWordPieceTokenizer(
            {token: index for index, token in enumerate(self.vocabulary)},
            strip_accents=True,
            lowercase=manifest["tokenizer"]["do_lower_case"],
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(bundle / manifest["graphs"]["onnx"]["path"]), options, providers=["CPUExecutionProvider"]
        )

    def ids(self, text: str) -> list[int]:
        """Token ids with `[CLS]` and `[SEP]`, however many."""
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids

    def classify(self, text: str) -> dict[str, float]:
        """Probability of each label; of a long text the mean over its windows, each counted by its tokens."""
        ids = self.ids(text)
        room = self.max_length - 2
        rows = [[ids[0], *ids[1 + start : 1 + end], ids[-1]] for start, end in spans(len(ids) - 2, room, room // 4)]
        scores = np.average([self._probabilities(row) for row in rows], axis=0, weights=[len(row) for row in rows])
        return dict(zip(self.labels, scores.tolist(), strict=True))

    def _probabilities(self, ids: list[int]) -> np.ndarray:
        row = np.array([ids], dtype=np.int64)
        (logits,) = self._session.run(None, {"input_ids": row, "token_type_ids": np.zeros_like(row)})
        exponents = np.exp(logits[0].astype(np.float64) - logits.max())
        return exponents / exponents.sum()

    def score_together(self, text: str, tokens: list[str]) -> float:
        """The mean probability of `tokens` in place of the masks, by the chain rule from left to right."""
        row = np.array([self.ids(text)], dtype=np.int64)
        columns = np.flatnonzero(row[0] == self.vocabulary.index("[MASK]"))
        product = 1.0
        for column, token in zip(columns, tokens, strict=True):
            token_id = self.vocabulary.index(token)
            (scores,) = self._session.run(
                ["target_scores"],
                {
                    "input_ids": row,
                    "token_type_ids": np.zeros_like(row),
                    "mask_positions": np.array([column]),
                    "target_ids": np.array([[token_id]]),
                },
            )
            product *= float(scores[0, 0])
            row[0, column] = token_id
        return float(product ** (1 / len(tokens)))

    def fill(self, text: str) -> list[list[tuple[str, float]]]:
        """For each mask the likeliest tokens of the vocabulary, special ones left out; the text must fit the model."""
        row = np.array([self.ids(text)], dtype=np.int64)
        columns = np.flatnonzero(row[0] == self.vocabulary.index("[MASK]"))
        top_ids, top_scores, _ = self._session.run(
            ["top_ids", "top_scores", "target_scores"],
            {
                "input_ids": row,
                "token_type_ids": np.zeros_like(row),
                "mask_positions": columns,
                "target_ids": np.zeros((len(columns), 1), dtype=np.int64),
            },
        )
        return [
            [(token, score) for token_id, score in zip(ids, scores, strict=True)
             if (token := self.vocabulary[token_id]) not in SPECIAL]
            for ids, scores in zip(top_ids.tolist(), top_scores.tolist(), strict=True)
        ]  # fmt: skip
