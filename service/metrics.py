"""Prometheus metrics. All children are created at the start, so that rates are right from the first request.

The processes of a service share the folder PROMETHEUS_MULTIPROC_DIR, which is set before prometheus_client is imported.
Each process writes its own files there (metric_files.py), and each can report the sums over all processes. Without the
variable a process reports only its own metrics.
"""

from __future__ import annotations

import asyncio
import json
import os
from bisect import bisect_left
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from model_build.bundle import Bundle
from service.endpoints import ENDPOINTS, TOKENIZE
from service.messages.inference import BatchDone
from service.metric_files import SharedValue, ValueFiles
from service.problem import STATUS

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0)
COUNTS = tuple(float(2**power) for power in range(0, 11))
TOKENS = tuple(float(2**power) for power in range(3, 18))
RATIOS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75)
INFER = "/v2/models/{name}/infer"


# "" stands for data that is not a valid head, so it has no path.
_COUNTED = frozenset((*ENDPOINTS.values(), TOKENIZE, ""))
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
# How often a process checks that its files are still there.
RESTORE_SECONDS = 5.0


if FOLDER in os.environ:
    SharedValue.files = ValueFiles(Path(os.environ[FOLDER]), str(os.getpid()))
    values.ValueClass = SharedValue


class Observer:
    """Observes values of one histogram child, without the checks and the linear search of `Histogram.observe`."""

    def __init__(self, child: Histogram) -> None:
        self._bounds = child._upper_bounds
        self._buckets = child._buckets
        self._sum = child._sum

    def observe(self, value: float) -> None:
        """Counts one value."""
        self._sum.inc(value)
        self._buckets[bisect_left(self._bounds, value)].inc(1)


class Metrics:
    """The metrics of one process, and the report over all processes."""

    def __init__(self, bundles: Iterable[Bundle]) -> None:
        self.registry = CollectorRegistry()

        def histogram(
            name: str, text: str, buckets: tuple[float, ...], labels: tuple[str, ...] = ("model",)
        ) -> Histogram:
            return Histogram(f"ernie_{name}", text, labels, registry=self.registry, buckets=buckets)

        def gauge(name: str, text: str, labels: tuple[str, ...] = ("model",)) -> Gauge:
            # Either only the parent sets a gauge, or each API process sets its own: the sum is right in both cases.
            return Gauge(f"ernie_{name}", text, labels, registry=self.registry, multiprocess_mode="livesum")

        def counter(name: str, text: str, labels: tuple[str, ...] = ("model",)) -> Counter:
            return Counter(f"ernie_{name}", text, labels, registry=self.registry)

        self.requests = counter("requests", "Requests answered, by status.", ("endpoint", "model", "code"))
        self.failures = counter("request_failures", "Requests answered with a problem, by its code.", ("reason",))
        self.duration = histogram(
            "request_duration_seconds",
            "From the request's head to its answer, unless that was 429 or 503.",
            SECONDS,
        )
        self.tokenize = histogram("tokenize_seconds", "Tokenisation of a request.", SECONDS)
        self.queue = histogram("queue_seconds", "From the sending to the engine to the first forward pass.", SECONDS)
        self.inference = histogram("inference_seconds", "One forward pass.", SECONDS)
        self.in_flight = gauge("inflight_requests", "Requests let in and not yet answered.")
        self.queue_requests = gauge("queue_requests", "Texts waiting in the engine, as of its last batch or probe.")
        self.queue_tokens = gauge("queue_tokens", "Tokens waiting in the engine, as of its last batch or probe.")
        self.batch_requests = histogram("batch_requests", "Texts in a batch.", COUNTS)
        self.batch_tokens = histogram("batch_tokens", "Tokens in a batch, padding left out.", TOKENS)
        self.padding = histogram("batch_padding_ratio", "Share of a batch that is padding.", RATIOS)
        self.truncated = counter("truncated", "Texts cut to the model's length.")
        self.unknown_tokens = counter("unknown_tokens", "Tokens of texts that the vocabulary does not know.")
        self.restarts = counter("engine_restarts", "Engine processes started again.")
        self.ready = gauge("ready", "1 while the model's engine is ready.")
        self.model_info = gauge("model_info", "1 for what is served.", ("model", "version", "task"))
        # Finding a child by its labels takes longer than counting.
        self._answered: dict[tuple[str, str, int], Counter] = {}
        self._durations: dict[str, Observer] = {}
        for bundle in bundles:
            self.add(bundle)
        for endpoint in (*ENDPOINTS.values(), TOKENIZE, INFER, ""):
            self._count(endpoint, "")  # requests without a known model
        for reason in STATUS:
            self.failures.labels(reason)

    def add(self, bundle: Bundle) -> None:
        """Creates the children of a model."""
        self._create(bundle.manifest.name, ENDPOINTS[bundle.manifest.task])

    def serve(self, bundle: Bundle, served: bool) -> None:
        """Records whether a bundle is served from now on."""
        manifest = bundle.manifest
        self.model_info.labels(manifest.name, manifest.version, manifest.task).set(float(served))

    def _create(self, model: str, endpoint: str) -> None:
        self._count(endpoint, model)
        self._count(TOKENIZE, model)
        self._count(INFER, model)
        for metric in (
            *(self.duration, self.tokenize, self.queue, self.inference, self.queue_requests, self.queue_tokens),
            *(self.batch_requests, self.batch_tokens, self.padding, self.truncated, self.restarts, self.ready),
            *(self.in_flight, self.unknown_tokens),
        ):
            metric.labels(model)

    def _count(self, endpoint: str, model: str) -> None:
        for status in sorted({200, *STATUS.values()}):
            self.requests.labels(endpoint, model, str(status))

    def answered(self, endpoint: str, model: str, status: int) -> Counter:
        """The counter of answers of a status."""
        key = endpoint, model, status
        if (counter := self._answered.get(key)) is None:
            counter = self._answered[key] = self.requests.labels(endpoint, model, str(status))
        return counter

    def durations(self, model: str) -> Observer:
        """Observes the durations of a model's answers."""
        if (observer := self._durations.get(model)) is None:
            observer = self._durations[model] = Observer(self.duration.labels(model))
        return observer

    @staticmethod
    def endpoint(path: str) -> str | None:
        """The label of a request's path; None if requests for this path are not counted."""
        if path in _COUNTED:
            return path
        return INFER if path.startswith("/v2/models/") and path.endswith("/infer") else None

    def batch_done(self, model: str, batch: BatchDone) -> None:
        """Counts one forward pass."""
        self.inference.labels(model).observe(batch.seconds)
        self.batch_requests.labels(model).observe(batch.items)
        self.batch_tokens.labels(model).observe(batch.tokens)
        self.padding.labels(model).observe(1 - batch.tokens / batch.padded_tokens)
        self.queued(model, batch.queue_items, batch.queue_tokens)

    def queued(self, model: str, items: int, tokens: int) -> None:
        """Records the length of an engine's queue."""
        self.queue_requests.labels(model).set(items)
        self.queue_tokens.labels(model).set(tokens)

    def text(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(_Totals(SharedValue.files) if FOLDER in os.environ else self.registry)

    @staticmethod
    def forget(pid: int) -> None:
        """Removes the gauges of a process that no longer runs; its counts are added to those of all such processes."""
        SharedValue.files.end(str(pid))

    @staticmethod
    async def keep_files() -> None:
        """Writes the files again when they are missing or could not be written; runs until it is cancelled."""
        while FOLDER in os.environ:
            await asyncio.sleep(RESTORE_SECONDS)
            SharedValue.files.restore()


class _Totals:
    """The sums over all processes, in the form that `generate_latest` takes."""

    def __init__(self, files: ValueFiles) -> None:
        self._files = files

    def collect(self) -> Iterable[Metric]:
        metrics: dict[str, Metric] = {}
        for (kind, key), value in self._files.totals().items():
            name, sample, labels, text = json.loads(key)
            if name not in metrics:
                metrics[name] = Metric(name, text, kind.split("_")[0])
                metrics[name]._multiprocess_mode = "livesum"  # type: ignore[attr-defined]
            metrics[name].add_sample(sample, tuple(sorted(labels.items())), value)  # type: ignore[arg-type]
        return MultiProcessCollector._accumulate_metrics(metrics, accumulate=True)
