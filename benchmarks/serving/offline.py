"""A bundle without the service: in ONNX Runtime fed by `tokenizers`, and in the service's own runtimes.

`OfflineModel` gives the expected answers, one text at a time. It shares nothing with the service but the rule by which
a long text is cut into windows. `Alone` runs the same tokenizer, arrays and runtime as an engine of the service.
In benchmarks/serving only this module and plain_adapter.py import parts of the service.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import BertWordPieceTokenizer

from model_build.bundle import open_bundle
from service.api.models.tokenization import tokenizer_named
from service.api.models.windows import spans
from service.engine.shapes import AnyShape, FewShapes
from service.engine.tensors import Tensors
from service.messages.inference import Item
from service.runtime.base import Runtime, RuntimeOptions, RuntimeUnavailable
from service.runtime.choice import load_runtime
from service.settings import read_settings

__all__ = ["Alone", "Arrays", "Item", "OfflineModel", "Runtime", "RuntimeUnavailable", "runtime_options"]

SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]")
WIDE = {ord(wide): plain for wide in map(chr, range(0xFF10, 0xFF5B)) if (plain := chr(ord(wide) - 0xFEE0)).isalnum()}
"""Full-width letters and digits, which a bundle with `fold_width` reads as ASCII."""
Arrays = dict[str, np.ndarray]


class OfflineModel:
    """A classifier or a masked LM in ONNX Runtime."""

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
        self._folds = manifest["tokenizer"].get("fold_width", False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(bundle / manifest["graphs"]["onnx"]["path"]), options, providers=["CPUExecutionProvider"]
        )

    def ids(self, text: str) -> list[int]:
        """All token ids, with `[CLS]` and `[SEP]`."""
        ids: list[int] = self._tokenizer.encode(text.translate(WIDE) if self._folds else text).ids
        return ids

    def classify(self, text: str) -> dict[str, float]:
        """Probability of each label; for a long text the mean over its windows, weighted by their tokens."""
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
        row, columns = self._masked(text)
        product = 1.0
        for column, token in zip(columns, tokens, strict=True):
            token_id = self.vocabulary.index(token)
            (scores,) = self._run_lm(["target_scores"], row, np.array([column]), np.array([[token_id]]))
            product *= float(scores[0, 0])
            row[0, column] = token_id
        return float(product ** (1 / len(tokens)))

    def fill(self, text: str) -> list[list[tuple[str, float]]]:
        """For each mask the most probable ordinary tokens; the text must fit the model."""
        row, columns = self._masked(text)
        targets = np.zeros((len(columns), 1), dtype=np.int64)
        top_ids, top_scores = self._run_lm(["top_ids", "top_scores"], row, columns, targets)
        return [
            [(token, score) for token_id, score in zip(ids, scores, strict=True)
             if (token := self.vocabulary[token_id]) not in SPECIAL]
            for ids, scores in zip(top_ids.tolist(), top_scores.tolist(), strict=True)
        ]  # fmt: skip

    def _masked(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        row = np.array([self.ids(text)], dtype=np.int64)
        return row, np.flatnonzero(row[0] == self.vocabulary.index("[MASK]"))

    def _run_lm(self, outputs: list[str], row: np.ndarray, masks: np.ndarray, targets: np.ndarray) -> Any:
        inputs = {"input_ids": row, "token_type_ids": np.zeros_like(row), "mask_positions": masks}
        return self._session.run(outputs, {**inputs, "target_ids": targets})


def runtime_options(flags: Sequence[str]) -> RuntimeOptions:
    """The options that ernie-serve makes of its flags."""
    given = read_settings(list(flags))
    return RuntimeOptions(
        **{name: getattr(given, name) for name in RuntimeOptions.__struct_fields__ if hasattr(given, name)}
    )


class Alone:
    """A bundle in a runtime of the service."""

    def __init__(self, directory: Path, options: RuntimeOptions) -> None:
        """Raises RuntimeUnavailable where the runtime cannot run it here."""
        bundle = open_bundle(directory)
        self.manifest = bundle.manifest
        self.runtime = load_runtime(bundle, options)
        self._tokenizer = tokenizer_named("native", bundle.vocab_path, self.manifest.tokenizer)
        self._tensors = Tensors(bundle, FewShapes() if self.runtime.compiles_shapes else AnyShape())

    async def item(self, text: str) -> Item:
        """The text as an engine receives it, cut to the model's length."""
        found = await self._tokenizer.encode(text, None, self.manifest.max_length)
        masks = found.mask_positions if self.manifest.task == "fill-mask" else []
        return Item(found.input_ids, found.token_type_ids, masks)

    def items(self, texts: Sequence[str]) -> list[Item]:
        """Several of them."""

        async def all_of_them() -> list[Item]:
            return [await self.item(text) for text in texts]

        return asyncio.run(all_of_them())

    def inputs(self, items: Sequence[Item]) -> Arrays:
        """The arrays of one forward pass."""
        return self._tensors.inputs(items)

    async def answer(self, text: str) -> None:
        """All the work for one text: tokens, arrays, forward pass, outputs."""
        items = [await self.item(text)]
        self._tensors.outputs(self.runtime.run(self._tensors.inputs(items)), items)
