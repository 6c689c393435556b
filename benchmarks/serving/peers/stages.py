"""Time by stage, and padding, from the metrics of ernie-serve before and after a load."""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

DURATIONS = {
    "total": "ernie_request_duration_seconds",
    "tokenize": "ernie_tokenize_seconds",
    "queue": "ernie_queue_seconds",
    "inference": "ernie_inference_seconds",
}
PADDING = "ernie_batch_padding_ratio"

Sums = dict[str, float]
"""Sum and count of histograms, over all their labels, by the name of the sample."""


def parsed(exposition: str) -> Sums:
    """From the text format of Prometheus."""
    sums: Sums = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            if sample.name.endswith(("_sum", "_count")):
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


def scraped(url: str) -> Sums:
    """From /metrics of a service."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        return parsed(answer.read().decode())


def mean(before: Mapping[str, float], after: Mapping[str, float], name: str) -> float:
    """Mean of the observations between two scrapes; 0 without observations."""
    total, count = (after[f"{name}_{part}"] - before[f"{name}_{part}"] for part in ("sum", "count"))
    return total / count if count else 0.0


def stages(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Milliseconds of a request. `inference` is the mean over forward passes, each counted once; `rest` is the rest of
    the total: reading, validation, messages to and from the engine, the answer.
    """
    times = {stage: 1000 * mean(before, after, name) for stage, name in DURATIONS.items()}
    total = times.pop("total")
    return {**times, "rest": max(0.0, total - sum(times.values()))}
