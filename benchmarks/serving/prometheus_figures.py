"""The counters of a real Prometheus after a load, compared with what the load generator has counted.

    python -m benchmarks.serving.prometheus_figures --minutes 5

Prometheus scrapes the service and evaluates the rules of k8s/components/monitoring as they are. The load goes to both
endpoints, with texts of one sentence to two dozen, one or several a request, and 3 % of wrong requests: in a closed
loop of 64 connections, at random moments (Poisson) at half of the rate that these have reached, at twice that rate, and
in a closed loop again. In the middle one engine is killed.

Counts are read from Prometheus in two ways: the values of the counters after the load minus those before it, and
`increase` over the same time. Ends with status 1 where the first differs by more than 2 % from the count of the
generator. Of the tokens and texts that were run, the generator knows bounds: a request that ended with 503 or 504 may
have been run, in part, or not at all.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import uvloop
import yaml

from benchmarks.arguments import parser_of
from benchmarks.serving.connection import Answer, HttpConnection, post
from benchmarks.serving.open_loop import CONNECTIONS, Tasks, arrivals
from benchmarks.serving.overload import PEAK_CONNECTIONS
from benchmarks.serving.questions import REFUSED, Question, masked_at_random
from benchmarks.serving.service import Service, free_port, serving
from benchmarks.serving.texts import TEXTS, body
from model_build.bundle import find_bundles

RULES = Path(__file__).parents[2] / "k8s" / "components" / "monitoring" / "prometheus-rule.yaml"
# A counter with a larger difference is wrong.
TOLERANCE = 0.02
SHARE_REFUSED = 0.03
CLIENT_SECONDS = 60.0
# The most that a start of Prometheus, or a scrape, may take.
PATIENCE_SECONDS = 60.0
# Answers of these statuses take no time; the service leaves them out of its durations.
REFUSALS = (429, 503)
Counts = Mapping[tuple[str, ...], float]
"""Counts by the values of some labels."""


class Prometheus:
    """Its HTTP API."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=30)

    def counts(self, expression: str, at: float, *labels: str) -> dict[tuple[str, ...], float]:
        """The values of an expression at a moment (Unix time), by labels of its series."""
        response = self._client.get("/api/v1/query", params={"query": expression, "time": at})
        answer = response.json()
        if answer["status"] != "success":
            raise SystemExit(f"{expression}: {answer.get('error')}")
        return {
            tuple(each["metric"].get(label, "") for label in labels): float(each["value"][1])
            for each in answer["data"]["result"]
        }

    def scraped_since(self, moment: float) -> float:
        """Waits for a scrape that begins after `moment`, and returns a time at which it is visible."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            # While it starts, its answers are not JSON.
            with contextlib.suppress(httpx.TransportError, json.JSONDecodeError):
                now = time.time()
                if self.counts("min(timestamp(ernie_requests_total))", now).get((), 0.0) > moment:
                    return now
            time.sleep(0.2)
        raise SystemExit(f"Prometheus has not scraped the service within {PATIENCE_SECONDS:.0f} s.")


@contextlib.contextmanager
def scraping(folder: Path, target: str, interval: float) -> Iterator[Prometheus]:
    """A Prometheus that scrapes `target` every `interval` seconds and evaluates the rules."""
    if shutil.which("prometheus") is None:
        raise SystemExit("prometheus is not on PATH; install it to run this (Debian: apt-get install prometheus).")
    rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))["spec"]
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules), encoding="utf-8")
    configuration = {
        "global": {"scrape_interval": f"{interval * 1000:.0f}ms", "scrape_timeout": f"{interval * 1000:.0f}ms"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [{"job_name": "ernie", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", "--config.file=prometheus.yaml", "--storage.tsdb.path=data"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], cwd=folder, stdout=log, stderr=log)
    try:
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait()


def mixture(models: Path, rng: random.Random, count: int) -> list[Question]:
    """`count` requests of each kind that must be answered 200."""

    def text(sentences: int) -> str:
        return "".join(rng.choices(TEXTS, k=rng.randint(1, sentences)))

    (classifier,), (lm,) = (
        [bundle.manifest.name for bundle in find_bundles(models) if bundle.manifest.task == task]
        for task in ("classify", "fill-mask")
    )
    asked = []
    for _ in range(count):
        asked += [
            Question("one text", classifier, "/classify", body(inputs=text(3))),
            Question("a long text", classifier, "/classify", body(inputs=text(24))),
            Question("a text cut", classifier, "/classify", body(inputs=text(24), truncation="truncate")),
            Question("four texts", classifier, "/classify", body(inputs=[text(3) for _ in range(4)])),
            Question("a mask", lm, "/fill-mask", body(inputs=masked_at_random(text(3), rng))),
            Question("two masks", lm, "/fill-mask", body(inputs=masked_at_random(text(6), rng, 2))),
        ]
    return asked


@dataclass
class Tally:
    """The counts of the load generator."""

    answers: collections.Counter[tuple[str, ...]] = field(default_factory=collections.Counter)
    """By endpoint and status."""
    served: collections.Counter[tuple[str, ...]] = field(default_factory=collections.Counter)
    """By model, of those that were answered 200."""
    failures: collections.Counter[tuple[str, ...]] = field(default_factory=collections.Counter)
    """By the `code` of the problem."""
    tokens: collections.Counter[tuple[str, ...]] = field(default_factory=collections.Counter)
    """By model, as are windows and cut texts."""
    windows: collections.Counter[tuple[str, ...]] = field(default_factory=collections.Counter)
    truncated: collections.Counter[tuple[str, ...]] = field(default_factory=collections.Counter)
    unfinished: collections.Counter[tuple[str, bytes]] = field(default_factory=collections.Counter)
    """Requests answered 503 or 504, by path and body."""
    costs: dict[tuple[str, bytes], tuple[str, int, int]] = field(default_factory=dict)
    """Model, tokens and windows of a request, by path and body."""
    durations: int = 0
    """Answers with a status outside REFUSALS."""
    restarts: collections.Counter[tuple[str, ...]] = field(default_factory=collections.Counter)
    unanswered: int = 0

    def count(self, question: Question, answer: Answer) -> None:
        """Adds one answer."""
        self.answers[question.path, str(answer.status)] += 1
        document = json.loads(answer.body)
        self.durations += answer.status not in REFUSALS
        if answer.status == 200:
            name, results = (document["model"],), document["results"]
            self.served[name] += 1
            tokens, windows = document["usage"]["tokens"], sum(each["windows"] for each in results)
            self.costs[question.path, question.body] = document["model"], tokens, windows
            self.tokens[name] += tokens
            self.windows[name] += windows
            self.truncated[name] += sum(each["truncated"] for each in results)
        else:
            self.failures[(document["code"],)] += 1
            if answer.status in (503, 504):
                self.unfinished[question.path, question.body] += 1

    def most(self) -> tuple[dict[tuple[str, ...], float], dict[tuple[str, ...], float]]:
        """Upper bounds by model: tokens and windows if all unfinished requests were run as well."""
        tokens, windows = (dict[tuple[str, ...], float](counted) for counted in (self.tokens, self.windows))
        for request, count in self.unfinished.items():
            if request in self.costs:
                model, of_tokens, of_windows = self.costs[request]
                tokens[(model,)] += count * of_tokens
                windows[(model,)] += count * of_windows
        return tokens, windows


class Generator:
    """Sends requests of a mixture to one service."""

    def __init__(self, service: Service, asked: Sequence[Question], rng: random.Random) -> None:
        self._service = service
        self._asked = asked
        self._rng = rng
        self._idle: list[HttpConnection] = []
        self.tally = Tally()

    async def run(self, seconds: float) -> None:
        """All phases, which take `seconds` together."""
        rate = await self._closed(0.3 * seconds)
        await asyncio.gather(self._open(rate / 2, 0.4 * seconds), self._kill_one(0.2 * seconds))
        await self._open(2 * rate, 0.2 * seconds)
        await self._closed(0.1 * seconds)
        for connection in self._idle:
            connection.close()

    async def _closed(self, seconds: float) -> float:
        """Answers a second of connections that send one request after the other."""
        say(f"{seconds:.0f} s: a closed loop of {PEAK_CONNECTIONS} connections")
        before, over = sum(self.tally.answers.values()), time.monotonic() + seconds

        async def client() -> None:
            while time.monotonic() < over:
                await self._ask()

        await asyncio.gather(*(client() for _ in range(PEAK_CONNECTIONS)))
        return (sum(self.tally.answers.values()) - before) / seconds

    async def _open(self, rate: float, seconds: float) -> None:
        say(f"{seconds:.0f} s: {rate:.0f} requests/s at random moments")
        end = time.perf_counter() + seconds
        async with Tasks() as tasks:
            async for _ in arrivals(rate, lambda due: due >= end, self._rng):
                tasks.start(self._ask())

    async def _kill_one(self, after: float) -> None:
        await asyncio.sleep(after)
        name = self._asked[0].model
        (engine,) = self._service.children()[name]
        with contextlib.suppress(psutil.NoSuchProcess):
            engine.kill()
        self.tally.restarts[(name,)] += 1
        say(f"the engine of {name} is killed")

    async def _ask(self) -> None:
        question = self._rng.choice(REFUSED if self._rng.random() < SHARE_REFUSED else self._asked)
        connection = self._idle.pop() if self._idle else HttpConnection(self._service.url)
        try:
            request = post(self._service.url, question.path, question.body)
            answer = await asyncio.wait_for(connection.ask(request), CLIENT_SECONDS)
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
            self.tally.unanswered += 1
            say(f"no answer: {type(error).__name__} {error}")
        else:
            self.tally.count(question, answer)
            self._idle.append(connection)


def say(sentence: str) -> None:
    """Progress."""
    print(sentence, file=sys.stderr, flush=True)


@dataclass
class Window:
    """The time between two scrapes, which contains the whole load (Unix time)."""

    prometheus: Prometheus
    begin: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.begin

    def grown(self, counter: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Values at the end minus those at the beginning; a new series began with 0."""
        expression = f"sum by ({', '.join(labels)}) ({counter})"
        before, after = (self.prometheus.counts(expression, at, *labels) for at in (self.begin, self.end))
        return {key: value - before.get(key, 0.0) for key, value in after.items()}

    def increase(self, counter: str, *labels: str) -> dict[tuple[str, ...], float]:
        """`increase` over the window."""
        expression = f"sum by ({', '.join(labels)}) (increase({counter}[{self.range}]))"
        return self.prometheus.counts(expression, self.end, *labels)

    @property
    def range(self) -> str:
        """The length of the window in PromQL."""
        return f"{self.seconds * 1000:.0f}ms"


def difference(found: float, low: float, high: float | None = None) -> float:
    """The share by which it is below `low` or above `high`, which is `low` unless given."""
    bound = min(max(found, low), low if high is None else high)
    if bound:
        return found / bound - 1
    return float("inf") if found else 0.0


class Table:
    """Markdown on standard output, and the counters that differ."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self.off: list[str] = []

    def head(self) -> None:
        print("| counted | generator | Prometheus, after minus before | off by | `increase` | off by |")
        print("|---|---|---|---|---|---|")

    def counter(self, title: str, counter: str, own: Counts, *labels: str, most: Counts | None = None) -> None:
        """A line for each combination of labels with a count; `most` are upper bounds of `own`."""
        grown, increase = self._window.grown(counter, *labels), self._window.increase(counter, *labels)
        keys = {key for key, value in (*own.items(), *grown.items()) if value}
        for key in sorted(keys) or [("",) * len(labels)]:
            low, found, other = (each.get(key, 0.0) for each in (own, grown, increase))
            high = low if most is None else most.get(key, low)
            name = " ".join(part for part in (title, *(part or "(no model)" for part in key)) if part)
            if abs(off := difference(found, low, high)) > TOLERANCE:
                self.off.append(f"{name}: {found:.0f}, but {low:.0f} were counted")
            counted = f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"
            also = f"{other:,.1f} | {difference(other, low, high):+.2%}"
            print(f"| {name} | {counted} | {found:,.0f} | {off:+.2%} | {also} |")


def report_counts(window: Window, tally: Tally) -> list[str]:
    """Prints the table; returns a sentence for each counter that differs."""
    table = Table(window)
    table.head()
    table.counter("requests", "ernie_requests_total", {(): sum(tally.answers.values())})
    table.counter("", "ernie_requests_total", tally.answers, "endpoint", "code")
    table.counter("answered 200:", 'ernie_requests_total{code="200"}', tally.served, "model")
    table.counter("failures:", "ernie_request_failures_total", tally.failures, "reason")
    table.counter("durations", "ernie_request_duration_seconds_count", {(): tally.durations})
    tokens, windows = tally.most()
    table.counter("tokens run:", "ernie_batch_tokens_sum", tally.tokens, "model", most=tokens)
    table.counter("texts run, windows apart:", "ernie_batch_requests_sum", tally.windows, "model", most=windows)
    table.counter("texts cut:", "ernie_truncated_total", tally.truncated, "model")
    table.counter("engine restarts:", "ernie_engine_restarts_total", tally.restarts, "model")
    return table.off


def main() -> int:
    """Runs it and prints the table."""
    parser = parser_of(__doc__, models=True, seed=True)
    parser.add_argument("--minutes", type=float, default=5.0, help="length of the load (default: 5)")
    parser.add_argument("--scrape-seconds", type=float, default=2.0, help="between two scrapes (default: 2)")
    arguments = parser.parse_args()
    uvloop.install()
    rng = random.Random(arguments.seed)
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(arguments.models, "--max-connections", str(CONNECTIONS)) as service,
        scraping(Path(folder), service.url.removeprefix("http://"), arguments.scrape_seconds) as prometheus,
    ):
        begin = prometheus.scraped_since(time.time())
        generator = Generator(service, mixture(arguments.models, rng, 50), rng)
        asyncio.run(generator.run(arguments.minutes * 60))
        window = Window(prometheus, begin, prometheus.scraped_since(time.time()))
        off = report_counts(window, generator.tally)
        if unanswered := generator.tally.unanswered:
            off.append(f"{unanswered} requests had no answer")
    for sentence in off:
        say(sentence)
    return 1 if off else 0


if __name__ == "__main__":
    raise SystemExit(main())
