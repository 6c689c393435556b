"""A rolling update rehearsed on one machine: real services behind a real proxy are replaced under load.

    python -m benchmarks.serving.rolling_update --models models --proxy haproxy --rounds 3

Probes, settings, grace period and number of replicas are read from k8s/base. As in a Deployment with maxSurge 1 and
maxUnavailable 0, a new replica is started; when its readiness probe has passed, an old one gets SIGTERM, the proxy is
informed of it some seconds later (--endpoint-delay), and the next new replica is started.

Requests arrive at random moments (Poisson), whether or not earlier ones are answered, every second one over a new
connection, to both endpoints; each answer is compared with that of an offline run. Client and proxy send each request
once (--retries lets the proxy send it again). Ends with status 1 if a request was lost (no answer, or any answer but
the right one with status 200), if a replica did not end with status 0 within the grace period, or if a liveness probe
would have killed one.

Proxies: `haproxy` shares its connections to a replica among clients. `haproxy-checks` is not informed: it finds out by
health checks, which are the readiness probe. `tcp` forwards whole connections as a Service does (kube-proxy): open ones
stay with their replica.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import dataclasses
import json
import random
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from benchmarks.arguments import parser_of
from benchmarks.rounds import percentile
from benchmarks.serving.connection import HttpConnection, post
from benchmarks.serving.haproxy import PROXIES, HAProxy, proxying
from benchmarks.serving.offline import OfflineModel
from benchmarks.serving.open_loop import Tasks, arrivals
from benchmarks.serving.questions import Question, classified, filled, tolerance_of
from benchmarks.serving.replica import BASE, Manifest, Replica
from benchmarks.serving.texts import TEXTS, body
from model_build.bundle import find_bundles

# Connections of clients that keep them; used in turn, so that each is idle for a while.
KEPT_CONNECTIONS = 32
CLIENT_SECONDS = 30.0
# Lost requests that are traced.
SHOWN = 20
COMPLAINT = re.compile(r"\[(?:warn|error|alert|crit|WARNING|ALERT)\]")
MAX_COMPLAINTS = 4000


def questions(models: Path) -> list[Question]:
    """One of each text to each endpoint, with the offline answers."""
    asked = []
    for bundle in find_bundles(models):
        offline, name = OfflineModel(bundle.directory), bundle.manifest.name
        tolerance = tolerance_of(bundle, "auto")
        for text in TEXTS:
            if bundle.manifest.task == "classify":
                check = classified([offline.classify(text)], tolerance)
                asked.append(Question("classify", name, "/classify", body(inputs=text, model=name), check=check))
            else:
                masked = f"{text[:2]}[MASK]{text[3:]}"
                check = filled(offline.fill(masked), tolerance)
                sent = body(inputs=masked, model=name, top_k=5)
                asked.append(Question("fill-mask", name, "/fill-mask", sent, check=check))
    return asked


@dataclass
class Sent:
    """One request: when it was due, how long its answer took in milliseconds, and what was wrong with it."""

    name: str
    due: float
    milliseconds: float
    fault: str | None


@dataclass
class Traffic:
    """Requests to one URL, each tried once."""

    url: str
    asked: Sequence[Question]
    rng: random.Random
    sent: list[Sent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._kept = collections.deque(HttpConnection(self.url) for _ in range(KEPT_CONNECTIONS))

    async def run(self, rate: float, ended: asyncio.Event) -> None:
        """Sends requests until the event; returns when every request has its answer."""
        async with Tasks() as tasks:
            number = 0
            async for due in arrivals(rate, lambda _: ended.is_set(), self.rng):
                number += 1
                tasks.start(self._one(f"roll-{number}", self.rng.choice(self.asked), due, number % 2 == 0))
        for connection in self._kept:
            connection.close()

    async def _one(self, name: str, question: Question, due: float, keep: bool) -> None:
        connection = self._kept.popleft() if keep and self._kept else HttpConnection(self.url)
        headers = f"X-Request-ID: {name}\r\n" + ("" if keep else "Connection: close\r\n")
        request = post(self.url, question.path, question.body, headers=headers)
        fault: str | None
        try:
            answer = await asyncio.wait_for(connection.ask(request), CLIENT_SECONDS)
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
            fault = f"no answer: {type(error).__name__} {error}"
        else:
            fault = question.check(json.loads(answer.body)) if answer.status == 200 else f"status {answer.status}"
            fault = fault or (None if answer.request_id == name else f"the answer of {answer.request_id}")
        self.sent.append(Sent(name, due, (time.perf_counter() - due) * 1000, fault))
        if keep:
            self._kept.append(connection)
        else:
            connection.close()


class Rollout:
    """A Deployment, its endpoints, and the proxy that is informed of them."""

    def __init__(self, manifest: Manifest, models: Path, folder: Path, proxy: HAProxy, endpoint_delay: float) -> None:
        self._manifest = manifest
        self._models = models
        self._folder = folder
        self._proxy = proxy
        self._endpoint_delay = endpoint_delay
        self._serving: list[Replica] = []
        self._news: asyncio.Queue[tuple[float, list[Replica]]] = asyncio.Queue()
        self._watching: dict[Replica, asyncio.Task[None]] = {}
        self.all: list[Replica] = []
        self.failed: list[Replica] = []
        self.routed: list[tuple[float, list[str]]] = []
        """When the proxy was informed, and of which replicas."""

    async def follow(self) -> None:
        """Informs the proxy of every change of the endpoints, `endpoint_delay` seconds later."""
        while True:
            changed, endpoints = await self._news.get()
            await asyncio.sleep(changed + self._endpoint_delay - time.monotonic())
            await self._proxy.route(endpoints)
            self.routed.append((time.perf_counter(), [each.name for each in endpoints]))

    def _change(self) -> None:
        endpoints = [each for each in self.all if each.ready and not each.terminating]
        self._news.put_nowait((time.monotonic(), endpoints))

    async def add(self) -> Replica:
        """Starts a replica and waits until it is ready."""
        replica = Replica(f"replica-{len(self.all) + 1}", self._manifest, self._models, self._folder)
        self.all.append(replica)
        await replica.start()
        self._watching[replica] = asyncio.create_task(replica.watch(self._change))
        while not replica.ready:
            await asyncio.sleep(0.05)
        self._serving.append(replica)
        return replica

    async def end(self, replica: Replica) -> None:
        """Removes it from the endpoints and sends it SIGTERM at the same time; returns when it has stopped."""
        self._serving.remove(replica)
        replica.terminating = True
        self._change()
        if not await replica.terminate():
            self.failed.append(replica)
        self._watching[replica].cancel()

    async def replace_all(self) -> None:
        """One rolling update. An old replica drains while the next new one starts."""
        ending = []
        for old in list(self._serving):
            await self.add()
            ending.append(asyncio.create_task(self.end(old)))
        await asyncio.gather(*ending)

    def kill(self) -> None:
        """Leaves no process behind."""
        for replica in self.all:
            replica.kill()


def traces(proxy: HAProxy, replicas: Sequence[Replica]) -> dict[str, list[str]]:
    """Lines in the logs of the proxy and the replicas, by the name of the request."""
    found: dict[str, list[str]] = {}
    lines = [f"proxy: {line}" for line in proxy.lines()]
    lines += [f"{each.name}: {line}" for each in replicas for line in each.log().splitlines()]
    for line in lines:
        for name in re.findall(r"\broll-\d+\b", line):
            found.setdefault(name, []).append(line)
    return found


def row(name: str, sent: Sequence[Sent]) -> str:
    """One line of the table."""
    lost = sum(each.fault is not None for each in sent)
    times = [each.milliseconds for each in sent if each.fault is None]
    return f"| {name} | {len(sent)} | {lost} | {percentile(times, 50):.0f} ms | {percentile(times, 99):.0f} ms |"


async def rehearse(arguments: argparse.Namespace, manifest: Manifest, proxy: HAProxy, folder: Path) -> bool:
    """All rounds; prints what was seen, and returns whether nothing was lost."""
    traffic = Traffic(proxy.url, questions(arguments.models), random.Random(arguments.seed))
    rollout = Rollout(manifest, arguments.models, folder, proxy, arguments.endpoint_delay)
    following = asyncio.create_task(rollout.follow())
    ended = asyncio.Event()
    spans: list[tuple[str, float, float]] = []

    @contextlib.contextmanager
    def phase(name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        spans.append((name, begun, time.perf_counter()))
        print(f"{name}: {time.perf_counter() - begun:.1f} s", file=sys.stderr)

    try:
        for _ in range(manifest.replicas):
            await rollout.add()
        await asyncio.sleep(arguments.endpoint_delay + 1)
        loading = asyncio.create_task(traffic.run(arguments.rate, ended))
        with phase("before"):
            await asyncio.sleep(arguments.steady)
        for number in range(1, arguments.rounds + 1):
            with phase(f"update {number}"):
                await rollout.replace_all()
            with phase(f"after {number}"):
                await asyncio.sleep(arguments.steady)
        ended.set()
        await loading
    finally:
        rollout.kill()
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
    report(traffic.sent, spans, rollout, proxy)
    return not rollout.failed and not any(each.fault for each in traffic.sent)


def report(sent: Sequence[Sent], spans: Sequence[tuple[str, float, float]], rollout: Rollout, proxy: HAProxy) -> None:
    """Prints the table, the notes about each replica, and all log lines about each lost request."""
    print("| | requests | lost | p50 | p99 |\n|---|---|---|---|---|")
    for name, begun, ended in spans:
        print(row(f"{name}, {ended - begun:.0f} s", [each for each in sent if begun <= each.due < ended]))
    print(row("all", sent))
    print(f"\nSent more than once by the proxy: {proxy.retried()}.\n")
    for replica in rollout.all:
        if replica.notes:
            print(f"- {replica.name}: {'; '.join(replica.notes)}")
    for moment, names in rollout.routed:
        print(f"- {moment - spans[0][1]:.1f} s: the proxy was informed of {', '.join(names)}")
    lost, traced = [each for each in sent if each.fault], traces(proxy, rollout.all)
    if lost:
        named = sum(each.name in traced for each in lost)
        print(f"\nOf {len(lost)} lost requests, {named} occur in the log of the proxy or of a replica.")
        print("\n".join(line for line in proxy.lines() if COMPLAINT.search(line))[:MAX_COMPLAINTS])
    for each in lost[:SHOWN]:
        print(f"\nlost: {each.name}, due {each.due - spans[0][1]:.2f} s after the first, {each.fault}")
        print("\n".join(f"    {line}" for line in traced.get(each.name, ())))


def main() -> int:
    """Runs it and prints the report."""
    parser = parser_of(__doc__, models=True, rounds=3, seed=True)
    parser.add_argument("--proxy", choices=PROXIES, default="haproxy", help="the proxy in front (default: haproxy)")
    parser.add_argument("--rate", type=float, default=60.0, help="requests a second (default: 60)")
    parser.add_argument("--steady", type=float, default=10.0, help="seconds before and after an update (default: 10)")
    parser.add_argument(
        "--endpoint-delay", type=float, default=2.0, help="seconds until the proxy is informed (default: 2)"
    )
    parser.add_argument("--drain-delay", type=float, help="instead of the manifests' ERNIE_DRAIN_DELAY_SECONDS")
    parser.add_argument("--retries", action="store_true", help="lets the proxy send a request again")
    arguments = parser.parse_args()
    manifest = Manifest.read(BASE)
    if arguments.drain_delay is not None:
        changed = {**manifest.settings, "ERNIE_DRAIN_DELAY_SECONDS": str(arguments.drain_delay)}
        manifest = dataclasses.replace(manifest, settings=changed)
    uvloop.install()
    with (
        tempfile.TemporaryDirectory() as folder,
        proxying(arguments.proxy, manifest, arguments.retries, Path(folder)) as proxy,
    ):
        drain = manifest.settings["ERNIE_DRAIN_DELAY_SECONDS"]
        print(
            f"{arguments.proxy}, {'retries' if arguments.retries else 'no retries'}, {arguments.rate:g} requests/s, "
            f"the proxy is informed of a change after {arguments.endpoint_delay:g} s, a replica drains for {drain} s\n"
        )
        good = asyncio.run(rehearse(arguments, manifest, proxy, Path(folder)))
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
