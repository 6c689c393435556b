"""Everything that one run of `python -m benchmarks.serving.peers` has measured, written to JSON and read back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from benchmarks.rounds import median, ratios

STAGES = ("tokenize", "queue", "inference", "rest")


class Closed(msgspec.Struct):
    """One measurement of a closed loop."""

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
    """CPU time of all processes of the server for one request."""
    stages: dict[str, float] | None = None
    """Milliseconds of a request by stage; ernie-serve only."""
    padding: float | None = None
    """Share of padding in a batch, mean over batches."""


class Open(msgspec.Struct):
    """One measurement of an open loop."""

    server: str
    endpoint: str
    texts: str
    share: float
    """Share of the peak that the same client reached in a closed loop."""
    rate: float
    """Answers per second."""
    p50: float
    p99: float


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
        """With the best number of texts in a batch."""
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
    """All figures, with machine and settings."""

    machine: dict[str, str]
    settings: dict[str, str]
    skipped: dict[str, str] = {}
    """Why a server was not measured."""
    closed: list[Closed] = []
    open: list[Open] = []
    offline: list[Offline] = []
    agreement: list[Agreement] = []
    labels: list[Labels] = []

    def save(self, path: Path) -> None:
        """Writes JSON, one record a line."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> Measured:
        """Reads what `save` wrote."""
        return msgspec.json.decode(path.read_bytes(), type=cls)

    def of(self, server: str, endpoint: str, texts: str, connections: int) -> list[Closed]:
        """Measurements of one configuration, by round."""
        return [
            each
            for each in self.closed
            if (each.server, each.endpoint, each.texts, each.connections) == (server, endpoint, texts, connections)
        ]

    def rate(self, server: str, endpoint: str, texts: str, connections: int) -> float:
        """Requests per second, median of the rounds; 0 without measurements."""
        return median(each.rate for each in self.of(server, endpoint, texts, connections))

    def best(self, servers: Sequence[str], endpoint: str, texts: str, connections: int) -> str | None:
        """The fastest of some servers."""
        here = [each for each in servers if self.of(each, endpoint, texts, connections)]
        return max(here, key=lambda each: self.rate(each, endpoint, texts, connections), default=None)

    def ratio(self, server: str, other: str, endpoint: str, texts: str, connections: int) -> float:
        """Ratio of requests per second, taken within each round; median of the rounds."""
        left, right = (self.of(each, endpoint, texts, connections) for each in (server, other))
        return median(ratios([each.rate for each in left], [each.rate for each in right]))

    def share_of_ceiling(self, server: str, endpoint: str, texts: str, connections: int) -> float | None:
        """Rate over that of the same runtime offline, taken within each round; median of the rounds."""
        ceilings = {
            each.round: each.best
            for each in self.offline
            if (each.server, each.endpoint, each.texts) == (server, endpoint, texts)
        }
        here = self.of(server, endpoint, texts, connections)
        shares = [each.rate / ceilings[each.round] for each in here if each.round in ceilings]
        return median(shares) if shares else None


def distinct(values: Iterable[str]) -> list[str]:
    """Each once, in the order of first occurrence."""
    return list(dict.fromkeys(values))
