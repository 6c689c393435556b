"""What was done to the service and when, which versions it served, and which failures each fault allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

# Another process may learn that an engine is ready or has failed a little later than the probe that ends a fault.
MARGIN_SECONDS = 1.0

ENGINE_KILLED = "an engine killed"
ENGINE_STOPPED = "an engine stopped"
API_KILLED = "an API process killed"
API_STOPPED = "an API process stopped"
FOLDER_FULL = "the temporary folder full"
EXCHANGED = "a bundle exchanged"
DAMAGED = "a damaged bundle offered"
SIGNALLED = "signals"
MEMORY = "memory of an engine limited"
DESCRIPTORS = "file descriptors of an API process limited"

_ENGINE = frozenset({(503, "engine_failed"), (503, "not_ready")})
_SLOW = frozenset({(429, "overloaded"), (504, "deadline_exceeded")})
OF_MODEL: dict[str, frozenset[tuple[int, str]]] = {
    ENGINE_KILLED: _ENGINE, ENGINE_STOPPED: _ENGINE | _SLOW, MEMORY: _ENGINE | _SLOW,
    DESCRIPTORS: frozenset({(503, "not_ready")}),  # of /metrics, which reads the files of all processes
}  # fmt: skip
"""Refusals that a fault allows for requests to the model of the engine, and for the readiness of the service."""
OF_CONNECTION: dict[str, frozenset[tuple[int, str]]] = {
    API_KILLED: frozenset(), API_STOPPED: frozenset({(408, "body_timeout"), (504, "deadline_exceeded")})
}  # fmt: skip
"""Refusals that a fault allows on connections of the API process. On these connections an answer may also be missing,
or be late."""


@dataclass
class Fault:
    """One fault, from its begin until the service had recovered; times in seconds of CLOCK_MONOTONIC."""

    kind: str
    begun: float
    model: str = ""
    ports: frozenset[int] = frozenset()
    """Ports of the clients whose connections the API process had."""
    ended: float = math.inf
    note: str = ""

    def overlaps(self, begun: float, ended: float) -> bool:
        """Whether a request of that time may have met the fault."""
        return begun <= self.ended + MARGIN_SECONDS and ended >= self.begun


@dataclass
class Served:
    """A version of a model, from the begin of its reload until its successor's reload was answered."""

    version: str
    since: float
    until: float = math.inf


@dataclass
class Timeline:
    """All faults and versions so far."""

    clock: Callable[[], float]
    faults: list[Fault] = field(default_factory=list)
    served: dict[str, list[Served]] = field(default_factory=dict)

    @contextmanager
    def fault(self, kind: str, model: str = "") -> Iterator[Fault]:
        """Records a fault; it ends with the block."""
        fault = Fault(kind, self.clock(), model)
        self.faults.append(fault)
        try:
            yield fault
        finally:
            fault.ended = self.clock()

    def serves(self, model: str, version: str) -> None:
        """Records that the version may answer from now on."""
        self.served.setdefault(model, []).append(Served(version, self.clock()))

    def replaced(self, model: str) -> None:
        """Records that only the newest version may answer requests from now on."""
        for each in self.served[model][:-1]:
            each.until = min(each.until, self.clock())

    def was_served(self, model: str, version: str, begun: float, ended: float) -> bool:
        """Whether the version may answer a request of that time."""
        return any(
            each.version == version and each.since <= ended and begun <= each.until
            for each in self.served.get(model, [])
        )

    def allows(self, status: int, code: str, model: str, port: int, begun: float, ended: float) -> str:
        """The kind of the fault that allows a refusal, or ""; an empty `code` is that of an answer without a code."""
        for fault in self.faults:
            if not fault.overlaps(begun, ended):
                continue
            found = OF_MODEL.get(fault.kind, frozenset()) if model in ("", fault.model) else frozenset()
            if port in fault.ports:
                found |= OF_CONNECTION.get(fault.kind, frozenset())
            if any(status == allowed and code in ("", named) for allowed, named in found):
                return fault.kind
        return ""

    def broke(self, port: int, opened: float, ended: float) -> str:
        """The kind of the fault that may have broken the connection of that port and time, or ""."""
        for fault in self.faults:
            if port in fault.ports and opened <= fault.begun <= ended:
                return fault.kind
            # libuv, the event loop's library, accepts a connection without a free descriptor and closes it at once.
            if fault.kind == DESCRIPTORS and fault.overlaps(opened, opened):
                return fault.kind
        return ""

    def count(self, *kinds: str) -> int:
        """The number of faults of these kinds."""
        return sum(fault.kind in kinds for fault in self.faults)
