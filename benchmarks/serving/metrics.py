"""The metrics of a running service."""

from __future__ import annotations

import urllib.request

from prometheus_client.parser import text_string_to_metric_families

RISING = ("counter", "histogram")
"""Types of metrics whose samples never fall."""


class Metrics:
    """All samples of one scrape."""

    def __init__(self, exposition: str) -> None:
        """From the text format of Prometheus."""
        families = list(text_string_to_metric_families(exposition))
        self._samples = [sample for family in families for sample in family.samples]
        self._rising = [sample for family in families if family.type in RISING for sample in family.samples]

    @classmethod
    def of(cls, url: str) -> Metrics:
        """From /metrics of a service."""
        with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
            return cls(answer.read().decode())

    def series(self, name: str) -> dict[str, float]:
        """The values of the samples with this name, by their labels."""
        return {str(sorted(each.labels.items())): each.value for each in self._samples if each.name == name}

    def samples(self, name: str) -> list[tuple[dict[str, str], float]]:
        """The labels and the value of every sample with this name."""
        return [(dict(each.labels), each.value) for each in self._samples if each.name == name]

    def counters(self) -> dict[str, float]:
        """The samples of all counters and histograms, by name and labels."""
        return {f"{each.name}{sorted(each.labels.items())}": each.value for each in self._rising}

    def total(self, name: str, **labels: str) -> float:
        """The sum of the samples with this name and these labels; 0 without samples."""
        return sum(each.value for each in self._samples if each.name == name and labels.items() <= each.labels.items())


def grown(before: Metrics, after: Metrics, name: str, **labels: str) -> float:
    """The difference between two scrapes."""
    return after.total(name, **labels) - before.total(name, **labels)


def mean(before: Metrics, after: Metrics, histogram: str, **labels: str) -> float:
    """The mean of the observations between two scrapes; 0 without observations."""
    total, count = (grown(before, after, f"{histogram}_{part}", **labels) for part in ("sum", "count"))
    return total / count if count else 0.0
