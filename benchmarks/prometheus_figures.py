"""What a real Prometheus says of a load, beside what the load generator has counted itself.

    python -m benchmarks.prometheus_figures --minutes 5

Prometheus scrapes the service and evaluates the rules of k8s/components/monitoring as they are. The load goes to both
endpoints, with texts of one sentence to two dozen, one or several a request, and 3 % of requests that are wrong: in a
closed loop of 64 connections, at random moments (Poisson) at half of the rate that these have got, at twice that rate,
and in a closed loop again. In the middle an engine is killed once.

Counts are taken from Prometheus in two ways: the counters' values after the load less those before it, and `increase`
over the same time. Ends with status 1 where the first is off by more than 2 % from what the generator has counted. Of
tokens and texts run the generator knows the least and the most: a request that ended with 503 or 504 may have been run,
in part, or not at all. Quantiles of a histogram are known to within a bucket, and the generator's own begin earlier and
end later than those of the service; they are printed and not judged.
"""

from __future__ import annotations

import argparse
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

from benchmarks.http_connection import Answer, HttpConnection, post
from benchmarks.http_load import TEXTS
from benchmarks.overload import CONNECTIONS, PEAK_CONNECTIONS, percentile
from benchmarks.proxies import free_port
from benchmarks.rolling_update import arrivals
from benchmarks.service_process import RunningService, serving
from benchmarks.soak import REFUSED, Question, body, masked
from model_build.bundle import find_bundles
from service.tracing import REFUSALS

RULES = Path(__file__).parents[1] / "k8s" / "components" / "monitoring" / "prometheus-rule.yaml"
# Off by more, a counted figure is wrong.
TOLERANCE = 0.02
SHARE_REFUSED = 0.03
CLIENT_SECONDS = 60.0
# What a Prometheus takes to start, or a scrape to come, at most.
PATIENCE_SECONDS = 60.0
DURATION = "ernie_request_duration_seconds"
Counts = Mapping[tuple[str, ...], float]
"""Numbers by the values of some labels."""


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
        """Waits for a scrape that begins after `moment`, and returns a time at which it is seen."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            # It answers no JSON while it starts.
            with contextlib.suppress(httpx.TransportError, json.JSONDecodeError):
                now = time.time()
                if self.counts("min(timestamp(ernie_requests_total))", now).get((), 0.0) > moment:
                    return now
            time.sleep(0.2)
        raise SystemExit(f"Prometheus has not scraped the service within {PATIENCE_SECONDS:.0f} s.")


@contextlib.contextmanager
def scraping(folder: Path, target: str, interval: float) -> Iterator[Prometheus]:
    """A Prometheus that asks `target` every `interval` seconds, and has the rules."""
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
    """`count` requests of each kind that are to be answered 200."""

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
            Question("a mask", lm, "/fill-mask", body(inputs=masked(text(3), rng))),
            Question("two masks", lm, "/fill-mask", body(inputs=masked(text(6), rng, 2))),
        ]
    return asked


@dataclass
class Tally:
    """What the load generator has seen."""

    answers: collections.Counter[tuple[str, ...]] = field(default_factory=collections.Counter)
    """by endpoint and status"""
    served: collections.Counter[tuple[str, ...]] = field(default_factory=collections.Counter)
    """by model, of those that were answered 200"""
    failures: collections.Counter[tuple[str, ...]] = field(default_factory=collections.Counter)
    """by the problem's code"""
    tokens: collections.Counter[tuple[str, ...]] = field(default_factory=collections.Counter)
    """by model; of texts and of windows likewise"""
    windows: collections.Counter[tuple[str, ...]] = field(default_factory=collections.Counter)
    truncated: collections.Counter[tuple[str, ...]] = field(default_factory=collections.Counter)
    unfinished: collections.Counter[tuple[str, bytes]] = field(default_factory=collections.Counter)
    """requests answered 503 or 504, by path and body"""
    costs: dict[tuple[str, bytes], tuple[str, int, int]] = field(default_factory=dict)
    """model, tokens and windows of a request, by path and body"""
    seconds: list[float] = field(default_factory=list)
    """from the sending of a request to the last byte of its answer, unless that was a refusal, 429 or 503"""
    in_flight: int = 0
    most_in_flight: int = 0
    restarts: collections.Counter[tuple[str, ...]] = field(default_factory=collections.Counter)
    unanswered: int = 0

    def count(self, question: Question, answer: Answer, seconds: float) -> None:
        """Adds one answer."""
        self.answers[question.path, str(answer.status)] += 1
        document = json.loads(answer.body)
        if answer.status not in REFUSALS:
            self.seconds.append(seconds)
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
        """Tokens and windows by model, had all that is unfinished been run too; what they cost is known from others."""
        tokens, windows = (dict[tuple[str, ...], float](counted) for counted in (self.tokens, self.windows))
        for request, count in self.unfinished.items():
            if request in self.costs:
                model, of_tokens, of_windows = self.costs[request]
                tokens[(model,)] += count * of_tokens
                windows[(model,)] += count * of_windows
        return tokens, windows


class Generator:
    """Sends requests of a mixture to one service."""

    def __init__(self, service: RunningService, asked: Sequence[Question], rng: random.Random) -> None:
        self._service = service
        self._asked = asked
        self._rng = rng
        self._idle: list[HttpConnection] = []
        self.tally = Tally()

    async def run(self, seconds: float) -> None:
        """All phases, which together take so long."""
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
        over, tasks = asyncio.Event(), set()
        asyncio.get_running_loop().call_later(seconds, over.set)
        async for _ in arrivals(rate, over, self._rng):
            task = asyncio.create_task(self._ask())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)

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
        tally = self.tally
        tally.in_flight += 1
        tally.most_in_flight = max(tally.most_in_flight, tally.in_flight)
        begun = time.perf_counter()
        try:
            request = post(self._service.url, question.path, question.body)
            answer = await asyncio.wait_for(connection.ask(request), CLIENT_SECONDS)
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
            tally.unanswered += 1
            say(f"no answer: {type(error).__name__} {error}")
        else:
            tally.count(question, answer, time.perf_counter() - begun)
            self._idle.append(connection)
        finally:
            tally.in_flight -= 1


def say(sentence: str) -> None:
    """Progress."""
    print(sentence, file=sys.stderr, flush=True)


@dataclass
class Window:
    """A time between two scrapes, with all of the load in it (Unix time)."""

    prometheus: Prometheus
    begin: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.begin

    def grown(self, counter: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Values at the end less those at the begin; a series that was not there yet began with 0."""
        expression = f"sum by ({', '.join(labels)}) ({counter})"
        before, after = (self.prometheus.counts(expression, at, *labels) for at in (self.begin, self.end))
        return {key: value - before.get(key, 0.0) for key, value in after.items()}

    def increase(self, counter: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Prometheus' own function over the window."""
        expression = f"sum by ({', '.join(labels)}) (increase({counter}[{self.range}]))"
        return self.prometheus.counts(expression, self.end, *labels)

    def value(self, expression: str) -> float:
        """Of an expression without labels, at the end; NaN where there is none."""
        return self.prometheus.counts(expression, self.end).get((), float("nan"))

    @property
    def range(self) -> str:
        """As PromQL has it."""
        return f"{self.seconds * 1000:.0f}ms"


def difference(found: float, low: float, high: float | None = None) -> float:
    """By which share it is less than `low` or more than `high`, which is `low` where none is given."""
    bound = min(max(found, low), low if high is None else high)
    if bound:
        return found / bound - 1
    return float("inf") if found else 0.0


class Table:
    """Markdown on standard output, and whether a counted figure was off."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self.off: list[str] = []

    def head(self) -> None:
        print("| counted | generator | Prometheus, after less before | off by | `increase` | off by |")
        print("|---|---|---|---|---|---|")

    def counter(self, title: str, counter: str, own: Counts, *labels: str, most: Counts | None = None) -> None:
        """A line for each combination of labels that either has counted; `most` where the generator knows no more."""
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


def bucket(counts: Counts, quantile: float) -> tuple[float, float]:
    """Bounds of the bucket that a quantile lies in; `counts` are cumulative, by the label `le`."""
    bounds = sorted((float(key[0]), count) for key, count in counts.items())
    low = 0.0
    for high, count in bounds:
        if count >= quantile * bounds[-1][1]:
            return low, high
        low = high
    return low, float("inf")


def report_counts(window: Window, tally: Tally) -> list[str]:
    """Prints what can be equal; returns the figures that are off."""
    table = Table(window)
    table.head()
    table.counter("requests", "ernie_requests_total", {(): sum(tally.answers.values())})
    table.counter("", "ernie_requests_total", tally.answers, "endpoint", "code")
    table.counter("answered 200:", 'ernie_requests_total{code="200"}', tally.served, "model")
    table.counter("failures:", "ernie_request_failures_total", tally.failures, "reason")
    table.counter("durations", f"{DURATION}_count", {(): len(tally.seconds)})
    tokens, windows = tally.most()
    table.counter("tokens run:", "ernie_batch_tokens_sum", tally.tokens, "model", most=tokens)
    table.counter("texts run, windows apart:", "ernie_batch_requests_sum", tally.windows, "model", most=windows)
    table.counter("texts cut:", "ernie_truncated_total", tally.truncated, "model")
    table.counter("engine restarts:", "ernie_engine_restarts_total", tally.restarts, "model")
    return table.off


def report_rates(window: Window, tally: Tally) -> None:
    """Prints rates, shares and means over the window, by the functions that a dashboard uses."""
    print(f"\n| over the window of {window.seconds:.1f} s | generator | Prometheus | off by |\n|---|---|---|---|")

    def compare(name: str, own: float, expression: str) -> None:
        found = window.value(expression.replace("$w", window.range))
        print(f"| {name} | {own:,.3f} | {found:,.3f} | {difference(found, own):+.1%} |")

    requests = sum(tally.answers.values())
    refused = sum(count for (_, code), count in tally.answers.items() if code == "429")
    mean = sum(tally.seconds) / len(tally.seconds)
    total = "sum(increase(ernie_requests_total[$w]))"
    compare("requests a second", requests / window.seconds, "sum(rate(ernie_requests_total[$w]))")
    compare("share refused", refused / requests, f'sum(increase(ernie_requests_total{{code="429"}}[$w])) / {total}')
    compare("mean latency, s", mean, f"sum(increase({DURATION}_sum[$w])) / sum(increase({DURATION}_count[$w]))")
    most = "max_over_time(sum(ernie_inflight_requests)[$w:1s])"
    compare("most in flight: let in, but sent for the generator", tally.most_in_flight, most)


def report_latency(window: Window, tally: Tally) -> None:
    """Prints quantiles and the buckets that they lie in."""
    print("\n| latency but of 429 and 503 | generator | Prometheus | bucket |\n|---|---|---|---|")
    counts = window.grown(f"{DURATION}_bucket", "le")
    for percent in (50, 90, 99):
        low, high = bucket(counts, percent / 100)
        buckets = f"sum by (le) (increase({DURATION}_bucket[{window.range}]))"
        found = window.value(f"histogram_quantile({percent / 100}, {buckets})")
        own = percentile(tally.seconds, percent)
        print(f"| p{percent} | {own * 1000:.0f} ms | {found * 1000:.0f} ms | {low * 1000:g}–{high * 1000:g} ms |")


def report_rest(window: Window) -> None:
    """Prints what only the service and the rules know."""
    print()
    sums, batches = (window.grown(f"ernie_batch_requests_{part}", "model") for part in ("sum", "count"))
    for (model,), count in sorted(batches.items()):
        print(f"- {model}: {count:.0f} batches of {sums[(model,)] / max(count, 1):.1f} texts in the mean")
    rule = "job_model:ernie_overloaded:ratio_rate5m"
    for (model,), share in sorted(window.prometheus.counts(rule, window.end, "model").items()):
        print(f"- {rule} of {model or 'no model'}: {share:.3f}")
    alerts = f"count_over_time(ALERTS[{window.range}])"
    for (name, state), count in sorted(window.prometheus.counts(alerts, window.end, "alertname", "alertstate").items()):
        print(f"- alert {name} was {state} at {count:.0f} evaluations")


def main() -> int:
    """Runs it and prints the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.prometheus_figures", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--models", type=Path, default=Path("models"), help="model repository (default: models)")
    parser.add_argument("--minutes", type=float, default=5.0, help="length of the load (default: 5)")
    parser.add_argument("--scrape-seconds", type=float, default=2.0, help="between two scrapes (default: 2)")
    parser.add_argument("--seed", type=int, default=1, help="of the texts and the arrivals (default: 1)")
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
        report_rates(window, generator.tally)
        report_latency(window, generator.tally)
        report_rest(window)
        if unanswered := generator.tally.unanswered:
            off.append(f"{unanswered} requests had no answer")
    for sentence in off:
        say(sentence)
    return 1 if off else 0


if __name__ == "__main__":
    raise SystemExit(main())
