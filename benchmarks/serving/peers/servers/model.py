"""Shared by the compared services: the ONNX graph of the bundle in ONNX Runtime, fed by `tokenizers`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import BertWordPieceTokenizer

TOP_K = 5
SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]")


class Model:
    """A classifier or a masked LM; several threads may use it at once."""

    def __init__(self, threads: int) -> None:
        """Loads the bundle that BUNDLE names; a forward pass takes `threads` threads."""
        bundle = Path(os.environ["BUNDLE"])
        manifest = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
        self.task: str = manifest["task"]
        self._labels: list[str] = manifest["labels"]
        self._tokens = (bundle / "vocab.txt").read_text(encoding="utf-8").splitlines()
        ids = {token: index for index, token in enumerate(self._tokens)}
        self._special = {ids[token] for token in SPECIAL}
        self._mask = ids["[MASK]"]
        self._tokenizer = BertWordPieceTokenizer(
            ids, strip_accents=True, lowercase=manifest["tokenizer"]["do_lower_case"]
        )
        self._tokenizer.enable_truncation(manifest["max_length"])
        self._tokenizer.enable_padding(pad_id=ids["[PAD]"], pad_token="[PAD]")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(bundle / manifest["graphs"]["onnx"]["path"]), options, providers=["CPUExecutionProvider"]
        )

    def answers(self, texts: list[str]) -> list[dict[str, Any]]:
        """One answer a text, of one padded batch."""
        encoded = self._tokenizer.encode_batch(texts) if len(texts) > 1 else [self._tokenizer.encode(texts[0])]
        ids = np.array([each.ids for each in encoded], dtype=np.int64)
        feed = {"input_ids": ids, "token_type_ids": np.zeros_like(ids)}
        results = self._classify(feed) if self.task == "classify" else self._fill(feed)
        return [{"results": [each]} for each in results]

    def _classify(self, feed: dict[str, np.ndarray]) -> list[dict[str, Any]]:
        (logits,) = self._session.run(["logits"], feed)
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores = exponents / exponents.sum(axis=1, keepdims=True)
        return [
            {"labels": sorted(
                ({"label": label, "score": score} for label, score in zip(self._labels, row, strict=True)),
                key=lambda each: -each["score"],
            )}
            for row in scores.tolist()
        ]  # fmt: skip

    def _fill(self, feed: dict[str, np.ndarray]) -> list[dict[str, Any]]:
        positions = np.flatnonzero(feed["input_ids"] == self._mask)
        feed |= {"mask_positions": positions, "target_ids": np.zeros((len(positions), 1), dtype=np.int64)}
        top_ids, top_scores = self._session.run(["top_ids", "top_scores"], feed)
        # Five more than TOP_K, because five may be special tokens; the other 90 never become Python objects.
        width = TOP_K + len(SPECIAL)
        results: list[dict[str, Any]] = [{"masks": []} for _ in feed["input_ids"]]
        rows = (positions // feed["input_ids"].shape[1]).tolist()
        for row, ids, scores in zip(rows, top_ids[:, :width].tolist(), top_scores[:, :width].tolist(), strict=True):
            ordinary = [(each, score) for each, score in zip(ids, scores, strict=True) if each not in self._special]
            results[row]["masks"].append(
                [{"token": self._tokens[each], "token_id": each, "score": score} for each, score in ordinary[:TOP_K]]
            )
        return results
