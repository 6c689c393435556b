"""This checkout compared with an earlier one of the same project, in alternation in one run.

    python -m benchmarks.serving.builds --before ../earlier --rounds 5 --output build/builds.json

Each checkout has a `.venv`, whose `ernie-serve` runs in an empty folder with the same flags. The bundles have the same
graphs; each checkout has its own copies, because an earlier release refuses fields that it does not know. In every
round both services are started again and each figure is measured of one and then of the other; which of them goes first
changes from figure to figure and from round to round.

host_path       CPU microseconds of a request outside the forward pass, API process and engine together, with a bundle
                whose forward pass is nearly free; that pass is measured alone and subtracted
one_connection  p50 latency of one client that sends one text after the other, with short and long texts
throughput      requests/s with 64 connections
overload        peak of the client in Python, and goodput (answers of status 200 per second) at twice the peak; both
                builds are offered the same rate
charset         requests/s with `Content-Type: application/json; charset=utf-8`, and without the charset

A ratio above 1 is better for this checkout: rates are divided by those before, costs and latencies the other way round.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from benchmarks.arguments import parser_of
from benchmarks.machine import machine
from benchmarks.processes import separately
from benchmarks.rounds import median, progress, ratios, spread, table
from benchmarks.serving.closed_loop import Load, by_python, by_wrk, need_wrk
from benchmarks.serving.connection import JSON
from benchmarks.serving.host_path import FLAGS, TASKS, Round, measure, pass_seconds, tiny_bundle
from benchmarks.serving.one_connection import Client
from benchmarks.serving.open_loop import CONNECTIONS, SETTLING_SECONDS, open_loop
from benchmarks.serving.overload import PEAK_CONNECTIONS
from benchmarks.serving.random_bundle import EMBEDDED
from benchmarks.serving.service import Service, serving
from benchmarks.serving.texts import MOST_CHARACTERS, SHORT_CHARACTERS, TEXTS, bodies_of, built_in_texts, read_texts

ROOT = Path(__file__).parents[2]
BEFORE, NOW = "before", "now"
MEASURES = ("host_path", "one_connection", "throughput", "overload", "charset")
HOST_PATH_CONNECTIONS = (1, 16, 64)
BUSY_CONNECTIONS = 64
WITH_CHARSET = f"{JSON}; charset=utf-8"
WARM_UP_SECONDS = 1


@dataclass
class Figure:
    """One measured number of a running service, and its values by build."""

    name: str
    unit: str
    take: Callable[[Service], float]
    lower_is_better: bool = False
    values: dict[str, list[float]] = field(default_factory=lambda: {BEFORE: [], NOW: []})

    def ratios(self) -> list[float]:
        """By round; above 1 this checkout is better."""
        pair = (self.values[BEFORE], self.values[NOW])
        return ratios(*pair) if self.lower_is_better else ratios(*reversed(pair))

    def row(self) -> tuple[str, ...]:
        """A row of the table."""
        return (
            f"{self.name}, {self.unit}",
            spread(self.values[BEFORE]),
            spread(self.values[NOW]),
            spread(self.ratios()),
        )


@dataclass
class Setup:
    """The bundles of each build, the flags of both, and the figures that are taken of them."""

    models: Mapping[str, Path]
    flags: tuple[str, ...]
    endpoints: Sequence[str]
    figures: list[Figure]


def tiny_bundle_of(checkout: Path, task: str, folder: Path) -> Path:
    """A bundle like that of `tiny_bundle`, written by another checkout."""
    python = checkout.resolve() / ".venv" / "bin" / "python"
    command = [str(python), "-m", "benchmarks.serving.random_bundle", "--variant", "tiny", "--task", task]
    done = subprocess.run([*command, "--output", str(folder)], cwd=checkout, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{checkout} cannot write a bundle: {done.stderr.strip().splitlines()[-1]}")
    made = Path(done.stdout.strip().splitlines()[-1])
    return made.parent.rename(folder / task) / made.name


def host_path(earlier: Path, folder: Path, runtime: Sequence[str], seconds: float) -> Iterator[Setup]:
    """A setup for each endpoint."""
    for endpoint, task in TASKS.items():
        bundle, bodies = tiny_bundle(task, folder), bodies_of(endpoint, TEXTS)
        bundles = {BEFORE: tiny_bundle_of(earlier, task, folder / "before"), NOW: bundle}

        @functools.cache
        def pass_of(rows: int, bundle: Path = bundle) -> float:
            """Microseconds of a forward pass for each of its rows."""
            return separately(pass_seconds, bundle, rows, runtime) / rows * 1e6

        def take(
            service: Service, endpoint: str, bodies: Sequence[bytes], connections: int, pass_of: Callable[[int], float]
        ) -> float:
            found: Round = measure(service, endpoint, bodies, connections, seconds)
            return found.api + found.engine - pass_of(max(1, round(found.rows)))

        yield Setup(bundles, (*FLAGS, *runtime), [endpoint], [
            Figure(
                f"host_path {endpoint}, {connections} connections", "CPU µs a request",
                functools.partial(
                    take, endpoint=endpoint, bodies=bodies, connections=connections, pass_of=pass_of
                ),
                lower_is_better=True,
            )
            for connections in HOST_PATH_CONNECTIONS
        ])  # fmt: skip


def one_connection(texts: Mapping[str, Sequence[str]], seconds: float) -> Iterator[Figure]:
    """p50 for each endpoint and kind of text."""

    def take(service: Service, endpoint: str, bodies: Sequence[bytes]) -> float:
        client = Client(service.url, endpoint)
        for body in bodies[:10]:
            client.ask(body)
        taken: list[float] = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            taken.append(1000 * client.seconds(bodies[len(taken) % len(bodies)]))
        return median(taken)

    for endpoint in TASKS:
        for kind, given in texts.items():
            bodies = bodies_of(endpoint, given)
            call = functools.partial(take, endpoint=endpoint, bodies=bodies)
            yield Figure(f"one_connection {endpoint}, {kind} texts", "p50 ms", call, lower_is_better=True)


def rate(service: Service, endpoint: str, content_type: str, seconds: float) -> float:
    """Requests per second by wrk."""
    load = Load(service.url, endpoint, bodies_of(endpoint, TEXTS), content_type)
    return by_wrk(load, BUSY_CONNECTIONS, max(1, seconds)).rate


def throughput(seconds: float) -> Iterator[Figure]:
    """Of both endpoints."""
    for endpoint in TASKS:
        call = functools.partial(rate, endpoint=endpoint, content_type=JSON, seconds=seconds)
        yield Figure(f"throughput {endpoint}, {BUSY_CONNECTIONS} connections", "requests/s", call)


def charset(seconds: float) -> Iterator[Figure]:
    """Of /classify, with the charset and without."""
    for content_type in (WITH_CHARSET, JSON):
        call = functools.partial(rate, endpoint="/classify", content_type=content_type, seconds=seconds)
        yield Figure(f"charset /classify, `{content_type}`", "requests/s", call)


def overload(seconds: float) -> Iterator[Figure]:
    """The peaks come first: twice the median of those of both builds is offered to both."""
    peaks: list[float] = []

    def load(service: Service) -> Load:
        return Load(service.url, "/classify", bodies_of("/classify", TEXTS))

    def peak(service: Service) -> float:
        peaks.append(by_python(load(service), PEAK_CONNECTIONS, seconds).rate)
        return peaks[-1]

    def goodput(service: Service) -> float:
        settling = min(SETTLING_SECONDS, seconds)
        return open_loop(load(service), 2 * median(peaks), seconds, len(peaks) // 2, settling).goodput

    yield Figure(f"overload /classify, peak of {PEAK_CONNECTIONS} connections in Python", "requests/s", peak)
    yield Figure("overload /classify, goodput at 2 × the peak", "requests/s", goodput)


def setups_of(
    measures: Sequence[str],
    earlier: Path,
    folder: Path,
    texts: Mapping[str, Sequence[str]],
    runtime: Sequence[str],
    seconds: float,
) -> list[Setup]:
    """The setups that the chosen measures need; `earlier` is the other checkout."""
    found = list(host_path(earlier, folder, runtime, seconds)) if "host_path" in measures else []
    embedded = {
        "one_connection": functools.partial(one_connection, texts, seconds),
        "throughput": functools.partial(throughput, seconds),
        "overload": functools.partial(overload, seconds),
        "charset": functools.partial(charset, seconds),
    }
    figures = [figure for name, make in embedded.items() if name in measures for figure in make()]
    if figures:
        # One that overload never reaches; the same for every measure, so that one service is enough.
        flags = ("--max-connections", str(CONNECTIONS), *runtime)
        found.append(Setup({BEFORE: earlier / "models", NOW: EMBEDDED}, flags, list(TASKS), figures))
    return found


def one_round(setup: Setup, commands: Mapping[str, tuple[str, ...]], number: int, bar: tqdm[None]) -> None:
    """Starts both services, and takes every figure of both."""
    with contextlib.ExitStack() as stack:
        services = {}
        for build, command in commands.items():
            empty = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            services[build] = stack.enter_context(
                serving(setup.models[build].resolve(), *setup.flags, command=command, cwd=empty)
            )
        for service in services.values():
            for endpoint in setup.endpoints:
                rate(service, endpoint, JSON, WARM_UP_SECONDS)
        for index, figure in enumerate(setup.figures):
            for build in (BEFORE, NOW) if (number + index) % 2 else (NOW, BEFORE):
                bar.set_description(f"{figure.name}, {build}")
                figure.values[build].append(figure.take(services[build]))
                bar.update()
            if bar.disable:
                print(
                    f"round {number + 1}: {figure.name}: ratio {figure.ratios()[-1]:.2f}", file=sys.stderr, flush=True
                )


def command_of(checkout: Path) -> tuple[str, ...]:
    """Its `ernie-serve`; raises SystemExit if there is none."""
    script = checkout.resolve() / ".venv" / "bin" / "ernie-serve"
    if not script.is_file():
        raise SystemExit(f"{script} does not exist; run `make .venv/.ready` in {checkout}.")
    return (str(script),)


def commit_of(checkout: Path) -> str:
    """The name of its commit, with `-dirty` where files have changed; empty without git."""
    describe = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=10"]
    return subprocess.run(describe, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """Runs the rounds and prints the table."""
    parser = parser_of(__doc__, rounds=5, seconds=3)
    parser.add_argument("--before", type=Path, required=True, metavar="CHECKOUT", help="the earlier checkout")
    parser.add_argument("--measure", nargs="+", choices=MEASURES, default=MEASURES, help="some of them (default: all)")
    parser.add_argument("--texts", type=Path, help="for one_connection: one text a line, or .tsv (default: built in)")
    parser.add_argument("--runtime", default="auto", help="as of ernie-serve (default: auto)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON with all values")
    arguments = parser.parse_args()
    need_wrk()
    os.environ.pop("PYTHONPATH", None)  # both services would import the same modules from it
    commands = {BEFORE: command_of(arguments.before), NOW: command_of(ROOT)}
    commits = {BEFORE: commit_of(arguments.before), NOW: commit_of(ROOT)}
    given = read_texts(arguments.texts) if arguments.texts else built_in_texts()["reviews"]
    texts = {"short": [text[:SHORT_CHARACTERS] for text in given], "long": [text[:MOST_CHARACTERS] for text in given]}
    with tempfile.TemporaryDirectory() as folder:
        runtime = ("--runtime", arguments.runtime)
        setups = setups_of(arguments.measure, arguments.before, Path(folder), texts, runtime, arguments.seconds)
        figures = [figure for setup in setups for figure in setup.figures]
        with progress(total=2 * len(figures) * arguments.rounds, unit="figure") as bar:
            for number in range(arguments.rounds):
                for setup in setups:
                    one_round(setup, commands, number, bar)
    about = machine()
    print(f"{about['processor']}, {about['cores']} cores; runtime {arguments.runtime}; {arguments.rounds} rounds of")
    print(f"{arguments.seconds:g} s; median (lowest–highest). Before: {commits[BEFORE]}, now: {commits[NOW]}.")
    print("A ratio above 1 is better for this checkout.\n")
    print(table(("figure", "before", "now", "ratio"), [figure.row() for figure in figures]))
    if arguments.output:
        values = {each.name: {"unit": each.unit, **each.values, "ratios": each.ratios()} for each in figures}
        settings = {"rounds": arguments.rounds, "seconds": arguments.seconds, "runtime": arguments.runtime}
        written = {"machine": about, "settings": settings, "commits": commits, "figures": values}
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(written, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
