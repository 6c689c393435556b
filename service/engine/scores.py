"""How the outputs of a classifier become scores: softmax, sigmoid, or unchanged.

Some exported graphs end in a softmax or a sigmoid already. Their outputs must not pass through it a second time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from model_build.bundle import Scores
from model_build.graph_reader import GraphError, read_graph

SUM_TOLERANCE = 1e-4
_LINEAR = {"add", "matmul", "gemm", "elementwise_add", "matmul_v2", "mul", "fc"}
"""Last operators of graphs whose outputs are logits, in lower case"""


class ScoreRule(NamedTuple):
    """What the scores of a model are, and whether its graph computes them already."""

    scores: Scores
    in_graph: bool = False
    """Whether the outputs of the graph are probabilities, so that there are no logits"""

    def apply(self, outputs: np.ndarray) -> np.ndarray:
        """Scores of the outputs [B, C] of the graph, float32."""
        if self.in_graph or self.scores == "raw":
            return outputs.astype(np.float32)
        return sigmoid(outputs) if self.scores == "sigmoid" else softmax(outputs)


def rule_of(declared: Scores, graphs: Sequence[tuple[Path, Path | None]], outputs: np.ndarray) -> ScoreRule:
    """The rule for a classifier whose bundle declares `declared`.

    `graphs` are the graph and parameter files of each format (no parameter file for ONNX), and `outputs` [N, C] the
    outputs for N different inputs.
    The softmax of a single output is always 1, so a single output is answered as it is.

    The last operator of the graph decides whether the outputs are probabilities. If it does not decide, they are the
    result of a softmax if every row is between 0 and 1 and has the sum 1, and the rows differ: logits may also be
    between 0 and 1, but they do not have the same sum for every input.
    """
    kinds = {kind.lower() for kind in (_last_kind(*files) for files in graphs) if kind}
    within = bool(((outputs >= 0) & (outputs <= 1)).all())
    if declared != "raw" and kinds == {"sigmoid"} and within:
        return ScoreRule("sigmoid", in_graph=True)
    if outputs.shape[1] == 1:
        return ScoreRule("raw" if declared == "softmax" else declared)
    if declared != "raw" and within and np.allclose(outputs.sum(axis=1), 1, rtol=0, atol=SUM_TOLERANCE):
        varied = np.ptp(outputs, axis=0).max() > SUM_TOLERANCE
        if kinds == {"softmax"} or (varied and not kinds & _LINEAR):
            return ScoreRule("softmax", in_graph=True)
    return ScoreRule(declared)


def _last_kind(model: Path, params: Path | None) -> str | None:
    """The operator that computes the outputs; None if the files cannot be read as a graph."""
    try:
        return read_graph(model, params).last_kind()
    except (GraphError, OSError):
        return None


def softmax(logits: np.ndarray) -> np.ndarray:
    """Along the last axis, in float32 and safe for large values."""
    exponents = np.exp(logits.astype(np.float32) - logits.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Of every value, in float32 and safe for large values."""
    values = logits.astype(np.float32)
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1, small) / (1 + small)
