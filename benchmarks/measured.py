"""Everything that one run of `python -m benchmarks.peers` has measured, as it is written to JSON and read back."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

STAGES = ("tokenize", "queue", "inference", "rest")


class Closed(msgspec.Struct):
    """A stretch of a closed loop."""

    server: str
    endpoint: str
    texts: str
    connections: int
    round: int
    rate: float
    """Requests per second."""
    p50: float
    p99: float
    """Milliseconds."""
    cpu_ms: float
    """Processor time of the server's processes for one request."""
    stages: dict[str, float] | None = None
    """Milliseconds of a request by stage, of ernie-serve only."""
    padding: float | None = None
    """Share of a batch that is padding, mean over batches."""


class Open(msgspec.Struct):
    """A stretch of an open loop: requests that arrive whether or not earlier ones are answered."""

    server: str
    endpoint: str
    texts: str
    share: float
    """Of the peak that the same client reached in a closed loop."""
    rate: float
    """Answers per second."""
    p50: float
    p99: float


class Client(msgspec.Struct):
    """Requests per second of the same closed loop, by the own generator and by wrk (None where it is not installed)."""

    server: str
    endpoint: str
    texts: str
    own: float
    wrk: float | None


class Offline(msgspec.Struct):
    """Texts per second without a server, by texts in a batch."""

    server: str
    endpoint: str
    texts: str
    round: int
    streams: int
    rates: dict[str, float]

    @property
    def best(self) -> float:
        """Of any number of texts in a batch."""
        return max(self.rates.values())


class Agreement(msgspec.Struct):
    """The largest difference of a score from ONNX Runtime offline, over `texts` texts."""

    server: str
    endpoint: str
    texts: int
    difference: float


class Labels(msgspec.Struct):
    """A trained model on labelled texts, against its fp32 bundle in ONNX Runtime offline."""

    server: str
    texts: int
    equal_labels: float
    accuracy: float
    offline_accuracy: float
    largest_difference: float


class Measured(msgspec.Struct):
    """All of it, and on what."""

    machine: dict[str, str]
    settings: dict[str, str]
    skipped: dict[str, str] = {}
    """Why a server was not measured."""
    closed: list[Closed] = []
    open: list[Open] = []
    clients: list[Client] = []
    offline: list[Offline] = []
    agreement: list[Agreement] = []
    labels: list[Labels] = []

    def save(self, path: Path) -> None:
        """Writes JSON, one record a line."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> Measured:
        """What `save` wrote."""
        return msgspec.json.decode(path.read_bytes(), type=cls)

    def stretches(self, server: str, endpoint: str, texts: str, connections: int) -> list[Closed]:
        """Of one configuration, by round."""
        return [
            each
            for each in self.closed
            if (each.server, each.endpoint, each.texts, each.connections) == (server, endpoint, texts, connections)
        ]

    def rate(self, server: str, endpoint: str, texts: str, connections: int) -> float:
        """Requests per second, median of the rounds; 0 where nothing was measured."""
        return median(each.rate for each in self.stretches(server, endpoint, texts, connections))

    def best(self, servers: Sequence[str], endpoint: str, texts: str, connections: int) -> str | None:
        """The fastest of some servers."""
        here = [each for each in servers if self.stretches(each, endpoint, texts, connections)]
        return max(here, key=lambda each: self.rate(each, endpoint, texts, connections), default=None)

    def ratio(self, server: str, other: str, endpoint: str, texts: str, connections: int) -> float:
        """Of requests per second, taken within each round; median of the rounds."""
        left, right = (self.stretches(each, endpoint, texts, connections) for each in (server, other))
        return median(one.rate / two.rate for one, two in zip(left, right, strict=False))

    def share_of_ceiling(self, server: str, endpoint: str, texts: str, connections: int) -> float | None:
        """Of the best that the same runtime does offline, taken within each round; median of the rounds."""
        ceilings = {
            each.round: each.best
            for each in self.offline
            if (each.server, each.endpoint, each.texts) == (server, endpoint, texts)
        }
        here = self.stretches(server, endpoint, texts, connections)
        shares = [each.rate / ceilings[each.round] for each in here if each.round in ceilings]
        return statistics.median(shares) if shares else None


def median(values: Iterable[float]) -> float:
    """0 of none."""
    found = list(values)
    return statistics.median(found) if found else 0.0


def distinct(values: Iterable[str]) -> list[str]:
    """In the order of their first coming."""
    return list(dict.fromkeys(values))
