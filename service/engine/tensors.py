"""Converts items to padded arrays, and the outputs of a graph to one result for each item."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model_build.bundle import Bundle, BundleError, read_vocabulary
from service.engine.scores import ScoreRule
from service.engine.shapes import AnyShape, Shapes
from service.messages.inference import Item, MaskOutput, Output
from service.runtime.base import Runtime


class InvalidItem(ValueError):
    """An item that must not reach the graph; the message is one sentence."""


class OutputError(RuntimeError):
    """A forward pass whose outputs cannot be used; the message is one sentence."""


class Tensors:
    """Converts between messages and arrays for one bundle."""

    def __init__(self, bundle: Bundle, shapes: Shapes | None = None) -> None:
        """Raises BundleError if the vocabulary lacks a special token."""
        manifest = bundle.manifest
        self.shapes = shapes or AnyShape()
        vocabulary = read_vocabulary(bundle.vocab_path)
        if missing := [token for token in ("[CLS]", "[SEP]", "[UNK]") if token not in vocabulary]:
            raise BundleError(f"{bundle.vocab_path}: the vocabulary has no {' and no '.join(missing)}.")
        self.directory = bundle.directory
        self.labels = manifest.labels
        self.fill_mask = manifest.task == "fill-mask"
        self.rule = ScoreRule(manifest.scores)
        """How outputs become scores; the warm-up replaces it by what it has found about the graph."""
        self.graphs = [bundle.graph(graph_format) for graph_format in manifest.graphs]
        self.max_length = manifest.max_length
        self.pad_id = vocabulary.index("[PAD]") if "[PAD]" in vocabulary else 0
        self.cls_id = vocabulary.index("[CLS]")
        self.num_ids = int(manifest.architecture.get("vocab_size", len(vocabulary)))
        self.num_tokens = len(vocabulary)
        self.num_types = int(manifest.architecture.get("type_vocab_size", 2))

    def check(self, item: Item) -> None:
        """Raises InvalidItem. With ids outside the embedding tables a runtime reads foreign memory or aborts."""
        length = len(item.input_ids)
        if not 1 <= length <= self.max_length:
            raise InvalidItem(f"an item has {length} tokens, but the model takes 1 to {self.max_length}.")
        if len(item.token_type_ids) != length:
            raise InvalidItem(f"an item has {length} ids, but {len(item.token_type_ids)} token types.")
        for name, values, limit in (
            ("input_ids", item.input_ids, self.num_ids),
            ("token_type_ids", item.token_type_ids, self.num_types),
            ("mask_positions", item.mask_positions, length),
            ("target_ids", item.target_ids, self.num_tokens),
        ):
            if values and not (min(values) >= 0 and max(values) < limit):
                raise InvalidItem(f"{name} must be between 0 and {limit - 1}.")
        if self.fill_mask and not item.mask_positions:
            raise InvalidItem("an item of a fill-mask model names no mask position.")

    def inputs(self, items: Sequence[Item]) -> dict[str, np.ndarray]:
        """int64 arrays: input_ids and token_type_ids [B, S]; for fill-mask mask_positions [N], target_ids [N, T].

        `shapes` defines S and N. Rows are padded; positions are padded with the position of the first token.
        """
        shape = len(items), self.columns(max(len(item.input_ids) for item in items))
        input_ids = np.full(shape, self.pad_id, dtype=np.int64)
        token_type_ids = np.zeros(shape, dtype=np.int64)
        for row, item in enumerate(items):
            input_ids[row, : len(item.input_ids)] = item.input_ids
            if any(item.token_type_ids):  # most texts have only zeros, and the array is zero
                token_type_ids[row, : len(item.token_type_ids)] = item.token_type_ids
        arrays = {"input_ids": input_ids, "token_type_ids": token_type_ids}
        if self.fill_mask:
            positions = [row * shape[1] + column for row, item in enumerate(items) for column in item.mask_positions]
            width = max(1, *(len(item.target_ids) for item in items)) if items else 1
            positions += [0] * (self.shapes.masks(len(positions)) - len(positions))
            targets = np.zeros((len(positions), width), dtype=np.int64)
            start = 0
            for item in items:
                stop = start + len(item.mask_positions)
                targets[start:stop, : len(item.target_ids)] = item.target_ids
                start = stop
            arrays |= {"mask_positions": np.array(positions, dtype=np.int64), "target_ids": targets}
        return arrays

    def columns(self, tokens: int) -> int:
        """Columns of a batch whose longest row has `tokens`."""
        return max(tokens, min(self.shapes.length(tokens), self.max_length))

    def outputs(self, arrays: dict[str, np.ndarray], items: Sequence[Item]) -> list[Output]:
        """One Output for each item, with the outputs of the graph as they are for an item that is `raw`.

        Raises OutputError if a score is not finite or a row is missing.
        """
        scores = arrays["top_scores"] if self.fill_mask else matrix(arrays["logits"])
        rows = sum(len(item.mask_positions) for item in items) if self.fill_mask else len(items)
        if scores.ndim != 2 or len(scores) != (self.shapes.masks(rows) if self.fill_mask else rows):
            raise OutputError(f"the graph gave outputs of shape {list(scores.shape)} for {rows} rows.")
        if not all(np.isfinite(array).all() for array in arrays.values() if array.dtype.kind == "f"):
            raise OutputError("the graph gave scores that are not finite numbers.")
        if not self.fill_mask:
            rows_of_scores = self.rule.apply(scores).tolist()
            for row, item in enumerate(items):
                if item.raw:
                    rows_of_scores[row] = scores[row].tolist()
            return [Output(scores=row) for row in rows_of_scores]
        results, start = [], 0
        for item in items:
            stop = start + len(item.mask_positions)
            columns = zip(
                arrays["top_ids"][start:stop].tolist(),
                scores[start:stop].tolist(),
                arrays["target_scores"][start:stop, : len(item.target_ids)].tolist(),
                strict=True,
            )
            results.append(Output(masks=[MaskOutput(*column) for column in columns]))
            start = stop
        return results

    def forward(self, runtime: Runtime, items: Sequence[Item], stream: int = 0) -> list[Output]:
        """Runs the items as one batch; raises OutputError, and what `Runtime.run` raises."""
        return self.outputs(runtime.run(self.inputs(items), stream), items)

    def check_labels(self, output: Output) -> None:
        """Raises BundleError if the number of labels differs from the number of classes of the graph."""
        if self.labels and len(self.labels) != len(output.scores):
            raise BundleError(
                f"{self.directory} has {len(self.labels)} labels, but its graph {len(output.scores)} classes."
            )

    def varied(self, rows: int, length: int) -> list[Item]:
        """Items of `length` tokens, each with other tokens, to see how the outputs depend on the input."""
        limit = max(1, min(self.num_ids, self.num_tokens) // 2)
        ids = np.random.default_rng(0).integers(0, limit, (rows, length)).tolist()
        return [Item([self.cls_id, *row[1:]], [0] * length) for row in ids]

    def example(self, rows: int, length: int) -> list[Item]:
        """Items of `length` tokens for the warm-up."""
        masks = [length // 2] if self.fill_mask else []
        return [Item([self.cls_id] * length, [0] * length, masks) for _ in range(rows)]


def matrix(outputs: np.ndarray) -> np.ndarray:
    """[B, C] as it is; the single outputs [B] of a regression as [B, 1]."""
    return outputs[:, None] if outputs.ndim == 1 else outputs
