"""Messages between the API processes, the supervisor and an engine."""

from __future__ import annotations

from typing import Literal

import msgspec

from model_build.bundle import Scores

Priority = Literal["interactive", "batch"]


class Item(msgspec.Struct, array_like=True):
    """One text as token ids. `mask_positions` are the columns of its masks, `target_ids` are the tokens to score.

    With `raw`, a classifier returns the outputs of its graph for this text instead of scores.
    """

    input_ids: list[int]
    token_type_ids: list[int]
    mask_positions: list[int] = []
    target_ids: list[int] = []
    raw: bool = False


class Infer(msgspec.Struct, tag=True, array_like=True):
    """API to engine: run these items and return their results together.

    `deadline` and `sent` are in seconds of CLOCK_MONOTONIC; time in the socket counts as time in the queue.
    """

    id: int
    items: list[Item]
    deadline: float | None = None
    priority: Priority = "interactive"
    sent: float | None = None


class Probe(msgspec.Struct, tag=True, array_like=True):
    """Supervisor to engine: answer Alive after a forward pass that is at most `max_age_seconds` old.

    A connection that has sent a probe receives BatchDone for every batch.
    """

    max_age_seconds: float


class Cancel(msgspec.Struct, tag=True, array_like=True):
    """API to engine: the result of this request is no longer wanted."""

    id: int


class Ready(msgspec.Struct, tag=True, array_like=True):
    """Engine to API, first message of a connection: the engine has warmed up.

    `scores` is what the scores of a classifier are. With `scores_in_graph` its graph computes them, and has no logits.
    """

    num_outputs: int
    backend: str
    warmup_seconds: float
    scores: Scores = "softmax"
    scores_in_graph: bool = False


class MaskOutput(msgspec.Struct, array_like=True):
    """Candidates of one mask, likeliest first, and the probabilities of the item's targets."""

    top_ids: list[int]
    top_scores: list[float]
    target_scores: list[float]


class Output(msgspec.Struct, array_like=True):
    """Result of one item: scores in label order, or one MaskOutput for each mask."""

    scores: list[float] = []
    masks: list[MaskOutput] = []


class Inferred(msgspec.Struct, tag=True, array_like=True):
    """Engine to API: the results of a request, in the order of its items.

    `queue_seconds` is the time from `sent` to the start of its first forward pass, `inference_seconds` the time from
    that start to the end of its last pass.
    """

    id: int
    outputs: list[Output]
    queue_seconds: float
    inference_seconds: float


class Failed(msgspec.Struct, tag=True, array_like=True):
    """Engine to API: a request that has no results."""

    id: int
    code: Literal["engine_failed", "deadline_exceeded", "invalid_input", "refused_input"]
    message: str


class Started(msgspec.Struct, tag=True, array_like=True):
    """Engine to API: a forward pass starts with items of these requests. If the engine stops now, they fail."""

    ids: list[int]


class Alive(msgspec.Struct, tag=True, array_like=True):
    """Engine to supervisor: the answer to a Probe, with the length of the queue."""

    queue_items: int = 0
    queue_tokens: int = 0


class BatchDone(msgspec.Struct, tag=True, array_like=True):
    """Engine to supervisor: one forward pass and the queue after it."""

    items: int
    tokens: int
    padded_tokens: int
    seconds: float
    queue_items: int
    queue_tokens: int


ToEngine = Infer | Cancel | Probe
ToApi = Ready | Started | Inferred | Failed | Alive | BatchDone
