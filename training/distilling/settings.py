"""The settings of distillation, shared by the command line and Python callers."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated


@dataclasses.dataclass(frozen=True)
class DistillSettings:
    """The weights of the losses that a student learns from; the losses are in `training.distilling.losses`."""

    hard_weight: Annotated[
        float, "weight of the loss on the labels; with --corpus, of the loss on masked tokens and sentence order"
    ] = 1.0
    logits_weight: Annotated[float, "weight of the loss on the teacher's probabilities"] = 1.0
    relations_weight: Annotated[
        float, "weight of the loss on the teacher's relations between tokens; with 0, a step takes less time"
    ] = 1.0
    temperature: Annotated[
        float, "softmax temperature for teacher and student; higher values give flatter probabilities"
    ] = 2.0
    teacher_layer: Annotated[
        int, "layer of the teacher whose relations the student learns; the first layer is 1; 0 means the last layer"
    ] = 0
    relation_heads: Annotated[
        int,
        "number of heads into which queries, keys and values are split for the relations; must divide the hidden size "
        "of teacher and student",
    ] = 8

    def __post_init__(self) -> None:
        weights = (self.hard_weight, self.logits_weight, self.relations_weight)
        if min(weights) < 0 or not all(map(math.isfinite, weights)):
            raise ValueError("--hard-weight, --logits-weight and --relations-weight must be 0 or more.")
        if not self.logits_weight and not self.relations_weight:
            raise ValueError("with --logits-weight 0 and --relations-weight 0 nothing is learnt from the teacher.")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"--temperature must be above 0, not {self.temperature}.")
        if self.teacher_layer < 0 or self.relation_heads < 1:
            raise ValueError("--teacher-layer must be 0 or more, and --relation-heads at least 1.")
