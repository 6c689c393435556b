"""Whether services give the answers of ONNX Runtime offline, one text at a time (benchmarks/serving/offline.py)."""

from __future__ import annotations

import csv
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving.offline import OfflineModel
from benchmarks.serving.texts import body

SAME_ANSWERS = 1e-4
"""The largest difference that fp32 arithmetic in another order explains."""

Scores = dict[str, float]
"""Probability of each label, or of each candidate for the one mask of a text."""


def ask(url: str, endpoint: str, **fields: Any) -> list[dict[str, Any]]:
    """The results of a request; raises RuntimeError for any status but 200."""
    request = urllib.request.Request(f"{url}{endpoint}", body(**fields), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            results: list[dict[str, Any]] = json.loads(answer.read())["results"]
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{endpoint} answered {error.code}: {error.read(500).decode(errors='replace')}") from error
    return results


def scores(result: dict[str, Any]) -> Scores:
    """The scores of one result of either endpoint."""
    if "labels" in result:
        return {each["label"]: each["score"] for each in result["labels"]}
    return {each["token"]: each["score"] for each in result["masks"][0]}


def offline_scores(model: OfflineModel, endpoint: str, texts: Sequence[str]) -> list[Scores]:
    """The expected answers; for fill-mask all candidates that the graph returns."""
    if endpoint == "/classify":
        return [model.classify(text) for text in texts]
    return [dict(model.fill(text)[0]) for text in texts]


def largest_difference(found: Sequence[Scores], expected: Sequence[Scores]) -> float:
    """Largest difference of a score from the expected one, which is 0 for an unexpected candidate."""
    return max(
        abs(score - right.get(name, 0.0))
        for each, right in zip(found, expected, strict=True)
        for name, score in each.items()
    )


def asked(url: str, endpoint: str, texts: Sequence[str]) -> list[Scores]:
    """The answers of a service to one text a request; raises RuntimeError."""
    return [scores(ask(url, endpoint, inputs=text, truncation="truncate")[0]) for text in texts]


@dataclass(frozen=True)
class Labelled:
    """Texts with their labels."""

    texts: list[str]
    labels: list[str]

    @classmethod
    def read(cls, path: Path, names: Sequence[str]) -> Labelled:
        """A TSV with `label` and `text_a` in its head; a label is a name or its number."""
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        if not rows or not {"label", "text_a"} <= rows[0].keys():
            raise SystemExit(f"{path} has no rows with label and text_a.")
        labels = [row["label"] if row["label"] in names else names[int(row["label"])] for row in rows]
        return cls([row["text_a"] for row in rows], labels)


def likeliest(found: Scores) -> str:
    """The label of the highest score."""
    return max(found, key=lambda name: found[name])


def label_agreement(url: str, labelled: Labelled, expected: Sequence[Scores]) -> dict[str, float]:
    """Shares of labels equal to the expected and to the true ones, and the largest difference of a score."""
    found: list[Scores] = []
    for start in range(0, len(labelled.texts), 32):
        found += [scores(each) for each in ask(url, "/classify", inputs=labelled.texts[start : start + 32])]
    given, right = [likeliest(each) for each in found], [likeliest(each) for each in expected]
    return {
        "equal_labels": share(given, right),
        "accuracy": share(given, labelled.labels),
        "offline_accuracy": share(right, labelled.labels),
        "largest_difference": largest_difference(found, expected),
    }


def share(left: Sequence[str], right: Sequence[str]) -> float:
    """Share of positions at which both are equal."""
    return sum(a == b for a, b in zip(left, right, strict=True)) / len(left)
