"""The time of a request by stage, from the metrics of ernie-serve before and after a load."""

from __future__ import annotations

from benchmarks.serving.metrics import Metrics, mean

DURATIONS = {
    "total": "ernie_request_duration_seconds",
    "tokenize": "ernie_tokenize_seconds",
    "queue": "ernie_queue_seconds",
    "inference": "ernie_inference_seconds",
}
PADDING = "ernie_batch_padding_ratio"


def stages(before: Metrics, after: Metrics) -> dict[str, float]:
    """Milliseconds of a request. `inference` is the mean over forward passes, each counted once; `rest` is the rest of
    the total: reading, validation, messages to and from the engine, the answer.
    """
    times = {stage: 1000 * mean(before, after, name) for stage, name in DURATIONS.items()}
    total = times.pop("total")
    return {**times, "rest": max(0.0, total - sum(times.values()))}
