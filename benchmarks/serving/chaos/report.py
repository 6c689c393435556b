"""The report of a run: tables, and a verdict."""

from __future__ import annotations

import argparse
import collections
from dataclasses import dataclass
from typing import Any

from benchmarks.rounds import table
from benchmarks.serving.chaos.ledger import Code, Ledger
from benchmarks.serving.chaos.limits import memory_groups
from benchmarks.serving.chaos.observation import Liveness, Observation
from benchmarks.serving.chaos.timeline import Timeline
from benchmarks.serving.growth import Memory, growth

MOST_SHOWN = 20


@dataclass(frozen=True)
class Run:
    """What a run has found."""

    arguments: argparse.Namespace
    ledger: Ledger
    timeline: Timeline
    counted: dict[Code, int]
    """The service's own counter of requests."""
    live: Liveness
    memory: Memory
    observation: Observation
    folder_reason: str
    """Why the temporary folder could not be filled; empty if it could."""


def report(run: Run) -> dict[str, Any]:
    """Prints the report, adds processes that have grown to what is wrong, and returns everything for JSON."""
    ledger = run.ledger
    print(f"\n{run.arguments.minutes:g} minutes, seed {run.arguments.seed}: {len(ledger.ended)} requests\n")
    head = ("client", "right", "refused, allowed", "no answer, allowed", "left", "wrong", "p50 ms", "p99 ms")
    print(table(head, ledger.table()))
    faults = collections.Counter(fault.kind for fault in run.timeline.faults)
    print("\n" + table(("fault", "times"), [[kind, str(count)] for kind, count in sorted(faults.items())]))
    for reason in left_out(run):
        print(reason)
    allowed = [
        [kind, str(status or "–"), code or "–", str(count)]
        for (status, code, kind), count in sorted(ledger.refused.items())
    ]
    print("\n" + table(("allowed by", "status", "code", "requests"), allowed))
    rows = [
        [*key, str(ledger.answered[key]), str(run.counted.get(key, 0))]
        for key in sorted({*ledger.answered, *run.counted})
        if ledger.answered[key] or run.counted.get(key)
    ]
    print("\n" + table(("endpoint", "code", "read by clients", "in /metrics"), rows))
    unknown = ", ".join(f"{endpoint} {count}" for endpoint, count in sorted(ledger.unknown.items()))
    print(f"requests whose client does not know the answer: {unknown or 'none'}; {run.observation.scrapes} scrapes")
    figures = run.live.figures()
    print(f"\n/health/live: {len(run.live.milliseconds)} requests, ", end="")
    print(", ".join(f"{name} {value:.1f} ms" for name, value in figures.items()), end="")
    print(f"; {run.live.excepted} more on connections that a fault broke")
    files = {name: max(numbers) for name, numbers in run.observation.files.items()}
    print(f"most open files: {', '.join(f'{name} {number}' for name, number in files.items())}")
    memory = _memory(run)
    print(f"\n{len(ledger.wrong)} wrong.")
    for sentence in ledger.wrong[:MOST_SHOWN]:
        print(f"  {sentence}")
    print(f"verdict: {'failed' if ledger.wrong else 'passed'}")
    return {
        "minutes": run.arguments.minutes,
        "seed": run.arguments.seed,
        "requests": len(ledger.ended),
        "outcomes": {f"{client}: {outcome}": count for (client, outcome), count in sorted(ledger.outcomes.items())},
        "faults": [
            {"kind": each.kind, "model": each.model, "begun": each.begun, "ended": each.ended, "note": each.note}
            for each in run.timeline.faults
        ],
        "left_out": left_out(run),
        "allowed": allowed,
        "counters": rows,
        "live_ms": figures,
        "files": files,
        "memory": memory,
        "wrong": ledger.wrong,
    }


def _memory(run: Run) -> dict[str, list[float]]:
    """Prints the memory of each process; after the warm-up it must not grow."""
    minutes = run.arguments.minutes
    warm_up = min(run.arguments.warm_up, minutes / 3)
    print(f"resident MB after {warm_up:.1f} minutes, at the end, growth:")
    grown = run.memory.report(warm_up * 60)
    if minutes > run.arguments.warm_up:
        run.ledger.wrong += grown
    return {name: list(growth(samples, warm_up * 60)) for name, samples in run.memory.samples.items()}


def left_out(run: Run) -> list[str]:
    """A sentence for each fault that this machine does not allow."""
    found = []
    if run.folder_reason:
        found.append(f"Left out: a full temporary folder ({run.folder_reason}).")
    if memory_groups() is None:
        found.append("Left out: a control group with a limit of memory; RLIMIT_AS limits the memory instead.")
    return found
