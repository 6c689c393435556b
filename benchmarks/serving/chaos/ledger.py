"""Every request with its one answer, what is wrong with it, and the comparison with the service's own counters."""

from __future__ import annotations

import collections
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.rounds import percentile
from benchmarks.serving.chaos.timeline import API_KILLED, API_STOPPED, FOLDER_FULL, Timeline
from benchmarks.serving.connection import Answer
from benchmarks.serving.metrics import Metrics
from benchmarks.serving.questions import Question

REQUESTS = "ernie_requests_total"
Code = tuple[str, str]
"""The labels `endpoint` and `code` of ernie_requests_total."""


@dataclass
class Entry:
    """A request that was sent."""

    id: str
    client: str
    question: Question
    port: int
    opened: float
    """When its connection was opened."""
    sent: float
    endpoint: str | None
    """Its label in /metrics, or None if the service does not count requests of its path."""


@dataclass
class Ledger:
    """All requests of one run. A sentence for each that is wrong is in `wrong`."""

    timeline: Timeline
    open: dict[str, Entry] = field(default_factory=dict)
    """Requests without an outcome."""
    ended: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    outcomes: collections.Counter[tuple[str, str]] = field(default_factory=collections.Counter)
    """Requests by client and outcome."""
    refused: collections.Counter[tuple[int, str, str]] = field(default_factory=collections.Counter)
    """Allowed refusals by status, code and fault."""
    answered: collections.Counter[Code] = field(default_factory=collections.Counter)
    """Answers that must be in /metrics."""
    unknown: collections.Counter[str] = field(default_factory=collections.Counter)
    """Requests by endpoint that may be in /metrics: their clients do not know the answer."""
    uncounted: collections.Counter[Code] = field(default_factory=collections.Counter)
    """Answers that may be missing in /metrics, because the temporary folder was full."""
    milliseconds: dict[str, list[float]] = field(default_factory=dict)
    """Latencies of right answers by client."""

    def send(self, entry: Entry) -> Entry:
        """Records a request just before it is sent."""
        self.open[entry.id] = entry
        return entry

    def answer(self, entry: Entry, answer: Answer) -> None:
        """Judges the answer to a request."""
        now = self.timeline.clock()
        if entry.id in self.ended:
            self._wrong(entry, f"got a second answer with status {answer.status}")
            return
        self._end(entry)
        if entry.endpoint:
            self.answered[entry.endpoint, str(answer.status)] += 1
            if any(f.kind == FOLDER_FULL and f.overlaps(entry.sent, now) for f in self.timeline.faults):
                self.uncounted[entry.endpoint, str(answer.status)] += 1
        if answer.request_id != entry.id:
            self._wrong(entry, f"got the answer of request {answer.request_id!r}")
        elif answer.status != entry.question.status:
            self._refusal(entry, answer, now)
        elif sentence := self._fault_of(entry, answer, now):
            self._wrong(entry, sentence)
        else:
            self.outcomes[entry.client, "right"] += 1
            self.milliseconds.setdefault(entry.client, []).append(1000 * (now - entry.sent))

    def lose(self, entry: Entry, why: str) -> None:
        """Records that no whole answer came."""
        self._end(entry)
        self._may_be_counted(entry)
        if kind := self.timeline.broke(entry.port, entry.opened, self.timeline.clock()):
            self.outcomes[entry.client, "no answer, allowed"] += 1
            self.refused[0, "no answer", kind] += 1
        else:
            self._wrong(entry, f"got no answer: {why}")

    def leave(self, entry: Entry) -> None:
        """Records that the client left before the answer."""
        self._end(entry)
        self._may_be_counted(entry)
        self.outcomes[entry.client, "client left"] += 1

    def surplus(self, entry: Entry, data: bytes) -> None:
        """Records bytes after the answer to the last request of a connection."""
        self._wrong(entry, f"got {len(data)} bytes after its answer: {data[:80]!r}")

    def close(self) -> None:
        """Ends the run: a request without an outcome is lost."""
        for entry in list(self.open.values()):
            self.lose(entry, "it had no outcome at the end of the run")

    def _end(self, entry: Entry) -> None:
        self.open.pop(entry.id, None)
        self.ended.add(entry.id)

    def _may_be_counted(self, entry: Entry) -> None:
        if entry.endpoint:
            self.unknown[entry.endpoint] += 1

    def _wrong(self, entry: Entry, sentence: str) -> None:
        self.outcomes[entry.client, "WRONG"] += 1
        about = f"{entry.id} ({entry.client}, {entry.question.kind}, port {entry.port}, sent at {entry.sent:.3f})"
        self.wrong.append(f"{about} {sentence}")

    def _refusal(self, entry: Entry, answer: Answer, now: float) -> None:
        code = _document(answer).get("code", "")
        kind = self.timeline.allows(answer.status, code, entry.question.model, entry.port, entry.sent, now)
        if kind:
            self.outcomes[entry.client, "refused, allowed"] += 1
            self.refused[answer.status, code, kind] += 1
        else:
            self._wrong(entry, f"got {answer.status}, not {entry.question.status}: {answer.body[:200]!r}")

    def _fault_of(self, entry: Entry, answer: Answer, now: float) -> str | None:
        if answer.status != 200 or not answer.body.startswith(b"{"):
            return None
        document = _document(answer)
        version = document.get("version") or document.get("model_version")
        model = document.get("model") or document.get("model_name")
        if model and version and not self.timeline.was_served(model, version, entry.sent, now):
            return f"was answered by {model} version {version}, which was not served then"
        return entry.question.check(document)

    def table(self) -> list[list[str]]:
        """Rows: a client with its requests by outcome and the latency of its right answers."""
        rows = []
        for client in sorted({client for client, _ in self.outcomes}):
            right, refused, lost, left, wrong = (
                self.outcomes[client, outcome]
                for outcome in ("right", "refused, allowed", "no answer, allowed", "client left", "WRONG")
            )
            times = self.milliseconds.get(client, [])
            shown = [f"{percentile(times, percent):.0f}" for percent in (50, 99)]
            rows.append([client, *(str(each) for each in (right, refused, lost, left, wrong)), *shown])
        return rows


def _document(answer: Answer) -> dict[str, Any]:
    """The JSON object of an answer; empty if it is none."""
    try:
        found = json.loads(answer.body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def counted(before: Metrics, after: Metrics) -> dict[Code, int]:
    """How much the service's counter of requests has grown, by endpoint and code, over all models."""
    found: collections.Counter[Code] = collections.Counter()
    for sign, metrics in ((1, after), (-1, before)):
        for labels, value in metrics.samples(REQUESTS):
            found[labels["endpoint"], labels["code"]] += sign * round(value)
    return dict(found)


def miscounted(ledger: Ledger, found: Mapping[Code, int]) -> list[str]:
    """A sentence for every endpoint and code whose counter does not fit the requests.

    The counter must be at least the number of answers that clients read. Allowed are: one missing for each API process
    that was killed or stopped, because a process writes an answer just before it counts it; and the answers during a
    full temporary folder. The counter must be at most the number of answers plus the requests without a known answer.
    For code 500 the latter are not added: a client that leaves causes no internal error.
    """
    wrong = []
    deaths = ledger.timeline.count(API_KILLED, API_STOPPED)
    for endpoint, code in sorted({*ledger.answered, *found}):
        read, value = ledger.answered[endpoint, code], found.get((endpoint, code), 0)
        least = read - ledger.uncounted[endpoint, code] - deaths
        most = read + (ledger.unknown[endpoint] if code != "500" else 0)
        if not least <= value <= most:
            wrong.append(f"{endpoint} with code {code} was counted {value} times, not {least} to {most} times")
    for endpoint in sorted({endpoint for endpoint, _ in found}):
        value = sum(count for (each, _), count in found.items() if each == endpoint)
        most = sum(count for (each, _), count in ledger.answered.items() if each == endpoint)
        most += ledger.unknown[endpoint]
        if value > most:
            wrong.append(f"{endpoint} was counted {value} times, but only {most} requests were sent")
    return wrong


class Rising:
    """Checks that no counter falls from one scrape to the next."""

    def __init__(self) -> None:
        self._highest: dict[str, float] = {}
        self.wrong: list[str] = []

    def observe(self, metrics: Metrics) -> None:
        """Compares with the scrapes before."""
        for series, value in metrics.counters().items():
            if value < (before := self._highest.get(series, 0.0)):
                self.wrong.append(f"the counter {series} fell from {before:g} to {value:g}")
            self._highest[series] = max(value, before)
        # A counter that disappears would start again at 0 in the eyes of Prometheus.
        for series in self._highest.keys() - metrics.counters().keys():
            if self._highest[series]:
                self.wrong.append(f"the counter {series} is missing, it was {self._highest.pop(series):g}")
