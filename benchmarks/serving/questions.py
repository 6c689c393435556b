"""Requests with the status that they must get and a check of their answers against an offline run of the same bundle.

An fp32 bundle must give equal scores to 1e-4, whichever runtime serves it. In int8 the values between layers are
rounded to steps, and a value close to the middle between two steps may be rounded the other way when a sum is computed
in another order. Within ONNX Runtime this happens to few texts, depending on the batch they are in, and 1e-3 is
allowed; another runtime rounds many texts differently, and 0.05 is allowed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.serving.texts import body
from model_build.bundle import Bundle

SCORE_TOLERANCE = 1e-4
# The largest differences seen of one int8 classifier: 1.1e-4 in 18,000 texts within ONNX Runtime, and 0.026 in 9,000
# between OpenVINO and ONNX Runtime.
INT8_TOLERANCE = 1e-3
INT8_TOLERANCE_ACROSS_RUNTIMES = 0.05
OFFLINE_RUNTIME = "onnxruntime"
Check = Callable[[dict[str, Any]], str | None]
"""Takes the JSON of an answer; returns a sentence about what is wrong, or None."""


@dataclass
class Question:
    """A request, the status it must get, and a check of its answer."""

    kind: str
    model: str
    path: str
    body: bytes
    status: int = 200
    check: Check = lambda answer: None
    method: str = "POST"


REFUSED = (
    Question("refused", "none", "/classify", b'{"inputs": ', 400),
    Question("refused", "none", "/classify", body(inputs="好", model="absent"), 404),
    Question("refused", "sentiment", "/classify", body(inputs=["好", ""], model="sentiment"), 422),
    Question("refused", "masked-lm", "/fill-mask", body(inputs="没有"), 422),
)


def tolerance_of(bundle: Bundle, runtime: str) -> float:
    """How far a score of the service may be from that of the offline run of the same bundle."""
    if "quantization" not in bundle.manifest.provenance:
        return SCORE_TOLERANCE
    return INT8_TOLERANCE if runtime == OFFLINE_RUNTIME else INT8_TOLERANCE_ACROSS_RUNTIMES


def close(found: float, expected: float, tolerance: float) -> bool:
    return abs(found - expected) <= tolerance


def classified(expected: list[dict[str, float]], tolerance: float = SCORE_TOLERANCE) -> Check:
    """Compares the scores of all labels."""

    def check(answer: dict[str, Any]) -> str | None:
        for each, scores in zip(answer["results"], expected, strict=True):
            found = {label["label"]: label["score"] for label in each["labels"]}
            if found.keys() != scores.keys() or not all(close(found[name], scores[name], tolerance) for name in scores):
                return f"labels {found}, offline {scores}"
        return None

    return check


def filled(expected: list[list[tuple[str, float]]], tolerance: float = SCORE_TOLERANCE) -> Check:
    """Compares the candidates of each mask of one text."""

    def check(answer: dict[str, Any]) -> str | None:
        (result,) = answer["results"]
        for mask, candidates in zip(result["masks"], expected, strict=True):
            known = dict(candidates)
            for rank, each in enumerate(mask):
                # Neighbours whose scores are equal but for rounding may change places.
                if not all(
                    close(each["score"], score, tolerance) for score in (candidates[rank][1], known[each["token"]])
                ):
                    return f"candidate {each}, offline {candidates[: len(mask)]}"
        return None

    return check


def same_fills(expected: dict[str, Any], tolerance: float) -> Check:
    """Compares masks that are filled together with an earlier answer."""

    def check(answer: dict[str, Any]) -> str | None:
        found, known = (each["results"][0]["fills"] for each in (answer, expected))
        scores = {str(each["tokens"]): each["token_score"] for each in known}
        same = len(found) == len(known) and all(
            close(one["token_score"], other["token_score"], tolerance)
            # Neighbours whose scores are equal but for rounding may change places.
            and (
                one["tokens"] == other["tokens"]
                or close(other["token_score"], scores.get(str(one["tokens"]), -1), tolerance)
            )
            for one, other in zip(found, known, strict=True)
        )
        return None if same else f"fills {found}, before {known}"

    return check


def masked_at_random(text: str, rng: random.Random, count: int = 1) -> str:
    """The text with `count` neighbouring characters masked."""
    at = rng.randrange(1, len(text) - count)
    return f"{text[:at]}{'[MASK]' * count}{text[at + count :]}"
