"""CPU time of one short request outside the forward pass: microseconds of the API process and of the engine.

    python -m benchmarks.serving.host_path --endpoint /classify

A bundle of one narrow layer with the vocabulary of the embedded models makes the forward pass nearly free. What it
costs is measured alone, on batches of the size that the service had, and subtracted. wrk sends one text of 4 to 58
characters a request over connections that stay open. CPU seconds are those that the kernel counts for each process.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.arguments import parser_of
from benchmarks.processes import separately
from benchmarks.rounds import alternate, median, spread, table
from benchmarks.rounds import cpu_seconds as timed
from benchmarks.serving.closed_loop import Load, by_wrk, need_wrk
from benchmarks.serving.metrics import Metrics, mean
from benchmarks.serving.random_bundle import TINY, make
from benchmarks.serving.service import WORKER, Service, cpu_seconds, serving
from benchmarks.serving.texts import TEXTS, bodies_of
from model_build.bundle import Task

TASKS: dict[str, Task] = {"/classify": "classify", "/fill-mask": "fill-mask"}
# About the tokens of a text of TEXTS: the pass alone is measured on rows of this length.
USUAL_LENGTH = 32
FLAGS = ("--cpu-threads", "1")


def tiny_bundle(task: Task, folder: Path) -> Path:
    """`folder/<task>/1`, made if it is missing."""
    if not (folder / task).is_dir():
        separately(make, TINY, task, folder, USUAL_LENGTH * 4, False, task)
    return folder / task / "1"


def pass_seconds(bundle: Path, rows: int, flags: Sequence[str] = ()) -> float:
    """CPU seconds of one forward pass of `rows` rows, without the service; the median of several runs."""
    from benchmarks.serving.offline import Alone, runtime_options

    alone = Alone(bundle, runtime_options([*FLAGS, *flags]))
    ids = np.full((rows, USUAL_LENGTH), 5, dtype=np.int64)
    arrays = {"input_ids": ids, "token_type_ids": np.zeros_like(ids)}
    if alone.manifest.task == "fill-mask":
        arrays["mask_positions"] = np.arange(rows, dtype=np.int64) * USUAL_LENGTH + 1
        arrays["target_ids"] = np.zeros((rows, 1), dtype=np.int64)
    run = timed(lambda: alone.runtime.run(arrays))
    return median([run() for _ in range(9)][1:])


@dataclass(frozen=True)
class Round:
    """Microseconds of CPU a request in the API process and in the engine, requests a second, texts a forward pass."""

    api: float
    engine: float
    rate: float
    rows: float


def measure(service: Service, endpoint: str, bodies: Sequence[bytes], connections: int, seconds: float) -> Round:
    """One round of load."""
    task, children = TASKS[endpoint], service.children()
    processes = [children[WORKER][0], children[task][0]]
    before, used = Metrics.of(service.url), [cpu_seconds(each) for each in processes]
    loop = by_wrk(Load(service.url, endpoint, bodies), connections, seconds)
    api, engine = ((cpu_seconds(each) - then) / loop.requests * 1e6 for each, then in zip(processes, used, strict=True))
    rows = mean(before, Metrics.of(service.url), "ernie_batch_requests", model=task)
    return Round(api, engine, loop.rate, rows)


def main() -> None:
    """Measures and prints a table."""
    parser = parser_of(__doc__, rounds=5, seconds=3)
    parser.add_argument("--endpoint", choices=tuple(TASKS), default="/classify")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 64], help="(default: 1 16 64)")
    parser.add_argument("--bundle", type=Path, help="folder in which the bundle is kept for the next run")
    arguments = parser.parse_args()
    need_wrk()
    endpoint, bodies = arguments.endpoint, bodies_of(arguments.endpoint, TEXTS)
    with contextlib.ExitStack() as stack:
        folder = arguments.bundle or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bundle = tiny_bundle(TASKS[endpoint], folder)
        with serving(bundle, *FLAGS) as service:
            by_wrk(Load(service.url, endpoint, bodies), max(arguments.connections), 1)  # not counted
            calls = {
                connections: functools.partial(measure, service, endpoint, bodies, connections, arguments.seconds)
                for connections in arguments.connections
            }
            found = alternate(calls, arguments.rounds)
        rows = []
        for connections, rounds in found.items():
            texts = median(each.rows for each in rounds)
            of_pass = separately(pass_seconds, bundle, max(1, round(texts))) / max(1, round(texts)) * 1e6
            rows.append((
                str(connections), spread(each.api for each in rounds), spread(each.engine for each in rounds),
                f"{of_pass:.0f}", spread(each.api + each.engine - of_pass for each in rounds),
                spread(each.rate for each in rounds), f"{texts:.1f}",
            ))  # fmt: skip
    print(f"{endpoint}, CPU microseconds a request, {arguments.rounds} rounds of {arguments.seconds:g} s")
    head = ("connections", "API process", "engine", "its passes", "both without passes", "requests/s", "texts a pass")
    print(table(head, rows))


if __name__ == "__main__":
    main()
