"""Evaluates the exported graph of a bundle, on labelled examples or on masked text."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import paddle
from paddle import Tensor, nn

from model_build.bundle import Bundle
from model_build.checkpoint import Checkpoint
from model_build.config import ErnieConfig
from model_build.derived import Figures
from model_build.runners import Arrays, Runner
from training.datasets.examples import Example, check_kinds, check_known
from training.finetuning.evaluation import evaluate, summary, task_of_model
from training.tasks.task import Row, Task, TaskBatch
from training.tasks.tokenizer import Tokenizer, pad_batch

CALIBRATION_BATCH = 8
EVALUATION_BATCH = 64
Parts = Mapping[str, Sequence[Any]]


class BundleEvaluator(Protocol):
    """Evaluates bundles of one task."""

    @property
    def metrics(self) -> Mapping[str, str]:
        """The deciding metric by part of the evaluation set; all are shares, and higher is better."""
        ...

    def figures(self, bundle: Bundle, run: Runner) -> Figures:
        """The metrics of the bundle by part; `run` runs its graph."""
        ...

    def calibration(self, bundle: Bundle, rows: int) -> list[Arrays]:
        """Batches of graph inputs for calibration, at most `rows` rows; an empty list without training examples."""
        ...


class TaskEvaluator:
    """Evaluates labelled examples with the metrics of finetuning; calibrates on the training examples."""

    def __init__(self, bundle: Bundle, parts: Parts) -> None:
        """Raises ValueError if `parts` has nothing to evaluate on, or a label that the bundle lacks."""
        self._parts = parts
        evaluated = [part for part in parts if part != "train"]
        if not evaluated:
            raise ValueError("there is nothing to evaluate the bundle on; give examples with --dev or --test.")
        check_kinds(parts)
        task = _task(bundle)
        if task.labels:
            for part in evaluated:
                check_known(task.labels, parts[part], str(bundle.directory))
        self.metrics = dict.fromkeys(evaluated, task.metrics[0])

    def figures(self, bundle: Bundle, run: Runner) -> Figures:
        found, _ = evaluate(_task(bundle), GraphModel(bundle, run), self._parts)
        return {part: summary(figures) for part, figures in found.items()}

    def calibration(self, bundle: Bundle, rows: int) -> list[Arrays]:
        task = _task(bundle)
        examples = self._parts.get("train", ())
        # An example has at least one row, so this many examples are enough.
        chosen: Sequence[Row] = task.rows(_some(examples, rows)) if examples else []
        ordered = sorted(_some(chosen, rows), key=lambda row: len(row.input_ids))
        pad = _config(bundle).pad_token_id
        batches = [
            TaskBatch.of(ordered[at : at + CALIBRATION_BATCH], pad) for at in _starts(ordered, CALIBRATION_BATCH)
        ]
        return [{"input_ids": each.input_ids, "token_type_ids": each.token_type_ids} for each in batches]


class MaskedTextEvaluator:
    """Masks one token of every text and counts how often a masked LM predicts it. The same texts get the same masks.

    With a smaller vocabulary the task is easier, because fewer tokens share the probability.
    """

    def __init__(self, parts: Parts) -> None:
        """`parts` are texts, as `Example`. Raises ValueError if there is nothing to evaluate on."""
        self._parts = parts
        self.metrics = {part: "top1" for part in parts if part != "train"}
        if not self.metrics:
            raise ValueError("there is nothing to evaluate the bundle on; give texts with --dev or --test.")

    def figures(self, bundle: Bundle, run: Runner) -> Figures:
        return {part: self._figures(bundle, run, self._parts[part]) for part in self.metrics}

    def _figures(self, bundle: Bundle, run: Runner, texts: Sequence[Example]) -> dict[str, float]:
        """Top-1 and top-5 accuracy, and mean loss in nats of the masked tokens."""
        names = [spec.name for spec in bundle.manifest.outputs]
        unknown = Tokenizer(bundle.vocab_path, bundle.manifest.tokenizer).unknown
        hits, scores = [], []
        for inputs in _masked_batches(bundle, texts, EVALUATION_BATCH):
            outputs = dict(zip(names, run(inputs), strict=True))
            wanted = inputs["target_ids"][:, :1]
            # A token outside the vocabulary cannot be predicted.
            hits.append((outputs["top_ids"][:, :5] == wanted) & (wanted != unknown))
            scores.append(outputs["target_scores"][:, 0])
        if not hits:
            raise ValueError("none of the texts to evaluate on has a token.")
        found = np.concatenate(hits)
        loss = -np.log(np.maximum(np.concatenate(scores), 1e-12)).mean()
        return {
            "texts": len(found), "top1": float(found[:, 0].mean()), "top5": float(found.any(axis=1).mean()),
            "loss": float(loss),
        }  # fmt: skip

    def calibration(self, bundle: Bundle, rows: int) -> list[Arrays]:
        return _masked_batches(bundle, _some(self._parts.get("train", ()), rows), CALIBRATION_BATCH)


class GraphModel(nn.Layer):
    """The graph of a bundle, with the interface of the model that it was exported from; for evaluation."""

    def __init__(self, bundle: Bundle, run: Runner) -> None:
        super().__init__()
        self.config = _config(bundle)
        self._run = run

    def forward(self, input_ids: Tensor, token_type_ids: Tensor) -> Tensor | tuple[Tensor, ...]:
        """[B, S] int64 each -> the outputs of the model."""
        found = self._run({"input_ids": input_ids.numpy(), "token_type_ids": token_type_ids.numpy()})
        tensors = tuple(map(paddle.to_tensor, found))
        return tensors if len(tensors) > 1 else tensors[0]


def evaluator_of(bundle: Bundle, parts: Parts) -> BundleEvaluator:
    """The evaluator for a bundle's task."""
    return MaskedTextEvaluator(parts) if bundle.manifest.task == "fill-mask" else TaskEvaluator(bundle, parts)


def _task(bundle: Bundle) -> Task:
    """The task with the settings that the bundle's model was trained with."""
    manifest = bundle.manifest
    about = Checkpoint(
        _config(bundle), manifest.task, manifest.max_length, manifest.labels, provenance=manifest.provenance,
        tokenizer=manifest.tokenizer,
        scores=manifest.scores,
    )  # fmt: skip
    return task_of_model(bundle.directory, about)


def _config(bundle: Bundle) -> ErnieConfig:
    return ErnieConfig.from_dict(bundle.manifest.architecture)


def _some(rows: Sequence[Any], count: int) -> Sequence[Any]:
    """At most `count` rows, chosen pseudo-randomly with a fixed seed."""
    chosen = np.random.default_rng(0).permutation(len(rows))[:count]
    return [rows[index] for index in sorted(chosen.tolist())]


def _starts(rows: Sequence[Any], size: int) -> range:
    return range(0, len(rows), size)


def _masked_batches(bundle: Bundle, texts: Sequence[Example], size: int) -> list[Arrays]:
    """Inputs of a fill-mask graph, with one mask in each text that has a token.

    The targets are the ids of the masked token and of the token before. A hash of the text chooses the character whose
    token is masked; if the text is cut before it, the last token is masked.
    """
    tokenizer, length = Tokenizer(bundle.vocab_path, bundle.manifest.tokenizer), bundle.manifest.max_length
    rows = []
    for each in texts:
        encoding = tokenizer.encode(each.text, max_length=length)
        starts = [start for start, _ in encoding.offsets[1:-1]]
        if starts:
            character = zlib.crc32(each.text.encode()) % len(each.text)
            rows.append((encoding.ids, max(1, sum(start <= character for start in starts))))
    ordered = sorted(rows, key=lambda row: len(row[0]))
    batches = []
    for start in _starts(ordered, size):
        chosen = ordered[start : start + size]
        ids = pad_batch([row for row, _ in chosen], tokenizer.pad)
        every = np.arange(len(chosen))
        columns = np.array([column for _, column in chosen])
        targets = np.stack([ids[every, columns], ids[every, columns - 1]], axis=1)
        ids[every, columns] = tokenizer.mask
        positions = every * ids.shape[1] + columns
        batches.append(
            {
                "input_ids": ids,
                "token_type_ids": np.zeros_like(ids),
                "mask_positions": positions,
                "target_ids": targets,
            }
        )
    return batches
