"""Half an hour of everything at once: mixed traffic while engines are killed, models exchanged and clients hang up.

    python -m benchmarks.soak --minutes 30

Every request that was let in must get exactly one answer, its own, and equal to that of an offline run of the same
bundle (benchmarks/offline.py; of fillings made together the choice is compared with that of the quiet service, and each
score with an offline run); an engine's death may cost its model's requests, for a while, and no other's; no process may
grow. Ends with status 1 where one of these is not so.

The offline run is ONNX Runtime's, and so is the service's unless `--runtime` says otherwise. Equal is to 1e-4 for an
fp32 bundle, whichever runtime. In int8 the values between layers are rounded to steps, and one that lies just between
two falls to the other side when a sum is taken in another order. Within ONNX Runtime that happens to few texts, as the
batch they are in differs, and 1e-3 is let pass; another runtime rounds differently in many, and 0.05 is let pass.

Three models are served. Two of them have their engines killed with SIGKILL and their bundles exchanged for newer ones,
by SIGHUP and by /admin/reload in turn. The third, `steady`, is left alone, so that an engine can be watched all along.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import itertools
import json
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import psutil
from tqdm import tqdm

from benchmarks.http_connection import Answer, HttpConnection, post
from benchmarks.http_load import TEXTS
from benchmarks.offline import OfflineModel
from benchmarks.service_process import RunningService, serving
from model_build.bundle import Bundle, find_bundles
from service.runtime.base import RuntimeName

SCORE_TOLERANCE = 1e-4
# The largest differences seen of one int8 classifier: 1.1e-4 in 18,000 texts within ONNX Runtime, and 0.026 in 9,000
# between OpenVINO and ONNX Runtime.
INT8_TOLERANCE = 1e-3
INT8_TOLERANCE_ACROSS_RUNTIMES = 0.05
OFFLINE_RUNTIME = "onnxruntime"
# A killed engine is replaced within this; until then its model, and only it, may answer 503.
RECOVERY_SECONDS = 30.0
SAMPLE_SECONDS = 5.0
LM = "masked-lm"
MAX_GROWTH = 0.02
Check = Callable[[dict[str, Any]], str | None]


@dataclass
class Question:
    """A request, the status it must get, and a check of its results, which says what is wrong with them."""

    kind: str
    model: str
    path: str
    body: bytes
    status: int = 200
    check: Check = lambda results: None


@dataclass
class Record:
    """What happened."""

    answers: collections.Counter[str] = field(default_factory=collections.Counter)
    wrong: list[str] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    hung_up: int = 0
    kills: list[tuple[float, str]] = field(default_factory=list)
    """when, and the model whose engine it was"""
    reloads: int = 0
    memory: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    """Seconds since the start and resident bytes; `worker 1`, `steady`, and for other engines the larger of two."""

    def blame(self, sentence: str) -> None:
        self.wrong.append(sentence)


def tolerance_of(bundle: Bundle, runtime: str) -> float:
    """How far a score of the service may be from that of the offline run of the same bundle."""
    if "quantization" not in bundle.manifest.provenance:
        return SCORE_TOLERANCE
    return INT8_TOLERANCE if runtime == OFFLINE_RUNTIME else INT8_TOLERANCE_ACROSS_RUNTIMES


def close(found: float, expected: float, tolerance: float) -> bool:
    return abs(found - expected) <= tolerance


def classified(expected: list[dict[str, float]], tolerance: float = SCORE_TOLERANCE) -> Check:
    def check(answer: dict[str, Any]) -> str | None:
        for each, scores in zip(answer["results"], expected, strict=True):
            found = {label["label"]: label["score"] for label in each["labels"]}
            if found.keys() != scores.keys() or not all(close(found[name], scores[name], tolerance) for name in scores):
                return f"labels {found}, offline {scores}"
        return None

    return check


def filled(expected: list[list[tuple[str, float]]], tolerance: float = SCORE_TOLERANCE) -> Check:
    def check(answer: dict[str, Any]) -> str | None:
        (result,) = answer["results"]
        for mask, candidates in zip(result["masks"], expected, strict=True):
            known = dict(candidates)
            for rank, each in enumerate(mask):
                # Neighbours whose scores are equal but for rounding may change places.
                if not all(
                    close(each["score"], score, tolerance) for score in (candidates[rank][1], known[each["token"]])
                ):
                    return f"candidate {each}, offline {candidates[: len(mask)]}"
        return None

    return check


def same_fills(expected: dict[str, Any], tolerance: float) -> Check:
    def check(answer: dict[str, Any]) -> str | None:
        found, known = (each["results"][0]["fills"] for each in (answer, expected))
        scores = {str(each["tokens"]): each["token_score"] for each in known}
        same = len(found) == len(known) and all(
            close(one["token_score"], other["token_score"], tolerance)
            # Neighbours whose scores are equal but for rounding may change places.
            and (
                one["tokens"] == other["tokens"]
                or close(other["token_score"], scores.get(str(one["tokens"]), -1), tolerance)
            )
            for one, other in zip(found, known, strict=True)
        )
        return None if same else f"fills {found}, before {known}"

    return check


def body(**fields: Any) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode()


def masked(text: str, rng: random.Random, count: int = 1) -> str:
    at = rng.randrange(1, len(text) - count)
    return f"{text[:at]}{'[MASK]' * count}{text[at + count :]}"


def questions(models: Path, tolerances: dict[str, float], rng: random.Random, count: int) -> Iterator[Question]:
    """`count` of each kind, with their offline answers; texts are of one sentence to two dozen."""
    classifier, lm = OfflineModel(models / "sentiment" / "1"), OfflineModel(models / LM / "1")

    def some_text(sentences: int) -> str:
        return "".join(rng.choices(TEXTS, k=rng.randint(1, sentences)))

    for name in ("sentiment", "steady"):
        for _ in range(count):
            text = some_text(24)
            check = classified([classifier.classify(text)], tolerances[name])
            yield Question("one text", name, "/classify", body(text=text, model=name), check=check)
            texts = [some_text(4) for _ in range(8)]
            sent = body(inputs=texts, model=name, priority="batch")
            check = classified([classifier.classify(each) for each in texts], tolerances[name])
            yield Question("eight texts", name, "/classify", sent, check=check)
    for _ in range(count):
        text = masked(some_text(3), rng)
        check = filled(lm.fill(text), tolerances[LM])
        yield Question("one mask", LM, "/fill-mask", body(inputs=text, top_k=5), check=check)
        text = masked(masked(some_text(3), rng), rng)
        if text.count("[MASK]") == 2:
            check = filled(lm.fill(text), tolerances[LM])
            yield Question("two masks", LM, "/fill-mask", body(inputs=text, top_k=5), check=check)


async def joint_questions(url: str, models: Path, tolerance: float, rng: random.Random, count: int) -> list[Question]:
    """Masks filled together, with the answers of the quiet service, whose scores are those of an offline run."""
    connection, lm = HttpConnection(url), OfflineModel(models / LM / "1")
    asked = []
    for _ in range(count):
        text = masked(rng.choice(TEXTS[:5]), rng, 2)
        sent = body(inputs=text, strategy="joint", top_k=3)
        answer = json.loads((await connection.ask(post(url, "/fill-mask", sent))).body)
        for fill in answer["results"][0]["fills"]:
            expected = lm.score_together(text, fill["tokens"])
            if not close(fill["token_score"], expected, tolerance):
                raise SystemExit(f"{text}: {fill} has the score {expected} offline.")
        asked.append(Question("two masks together", LM, "/fill-mask", sent, check=same_fills(answer, tolerance)))
    connection.close()
    return asked


REFUSED = (
    Question("refused", "none", "/classify", b'{"inputs": ', 400),
    Question("refused", "none", "/classify", body(inputs="好", model="absent"), 404),
    Question("refused", "sentiment", "/classify", body(inputs=["好", ""], model="sentiment"), 422),
    Question("refused", LM, "/fill-mask", body(inputs="没有"), 422),
)


class Soak:
    """One run."""

    def __init__(self, service: RunningService, models: Path, rng: random.Random, asked: list[Question]) -> None:
        self._service = service
        self._models = models
        self._rng = rng
        self._asked = asked
        self._serial = itertools.count()
        self._begun = time.monotonic()
        self.record = Record()

    async def run(self, seconds: float, connections: int) -> Record:
        """Traffic, trouble and measurement side by side, for so long."""
        over = asyncio.Event()
        work = [self._client(over) for _ in range(connections)]
        tasks = [asyncio.create_task(each) for each in (*work, self._trouble(over), self._measure(over))]
        for _ in tqdm(range(int(seconds)), unit="s", disable=not sys.stderr.isatty()):
            await asyncio.sleep(1)
        over.set()
        await asyncio.gather(*tasks)
        return self.record

    async def _client(self, over: asyncio.Event) -> None:
        connection = HttpConnection(self._service.url)
        while not over.is_set():
            question = self._rng.choice(REFUSED if self._rng.random() < 0.03 else self._asked)
            own = f"soak-{next(self._serial)}"
            headers = f"Content-Type: application/json\r\nX-Request-ID: {own}\r\n"
            request = post(self._service.url, question.path, question.body, headers)
            if self._rng.random() < 0.03:
                await connection.send(request)
                await asyncio.sleep(self._rng.uniform(0, 0.05))
                connection.close()
                self.record.hung_up += 1
                continue
            begun = time.monotonic()
            try:
                answer = await asyncio.wait_for(connection.ask(request), 60)
            except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError) as error:
                self.record.blame(f"{own} ({question.kind}) got no answer: {type(error).__name__} {error}")
                continue
            self.record.latencies.append(time.monotonic() - begun)
            self._judge(question, own, answer, begun)
        connection.close()

    def _judge(self, question: Question, own: str, answer: Answer, begun: float) -> None:
        if answer.request_id != own:
            self.record.blame(f"{own} got the answer of {answer.request_id}")
        elif answer.status == 503 and any(
            name == question.model and begun - kill < RECOVERY_SECONDS for kill, name in self.record.kills
        ):
            self.record.answers[f"503 {json.loads(answer.body)['code']}, after a kill"] += 1
        elif answer.status != question.status:
            self.record.blame(f"{own} ({question.kind}) got {answer.status}: {answer.body[:200]!r}")
        elif answer.status == 200 and (fault := question.check(json.loads(answer.body))):
            self.record.blame(f"{own} ({question.kind}) is wrong: {fault}")
        else:
            self.record.answers[question.kind] += 1

    async def _trouble(self, over: asyncio.Event) -> None:
        version = 1
        while not await happened(over, self._rng.uniform(10, 40)):
            name = self._rng.choice(("sentiment", LM))
            if self._rng.random() < 0.5:
                self.record.kills.append((time.monotonic(), name))
                for engine in self._service.children().get(name, []):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        engine.kill()
            else:
                version += 1
                await asyncio.to_thread(put_version, self._models / name, version)
                await self._reload(by_signal=version % 2 == 0)
                self.record.reloads += 1

    async def _reload(self, by_signal: bool) -> None:
        if by_signal:
            self._service.process.send_signal(signal.SIGHUP)
            return
        connection = HttpConnection(self._service.url)
        answer = await connection.ask(post(self._service.url, "/admin/reload", b""))
        connection.close()
        if answer.status != 200 or json.loads(answer.body)["refused"]:
            self.record.blame(f"a reload was answered {answer.status}: {answer.body[:200]!r}")

    async def _measure(self, over: asyncio.Event) -> None:
        while not await happened(over, SAMPLE_SECONDS):
            now = time.monotonic() - self._begun
            sizes = {"parent": psutil.Process(self._service.process.pid).memory_info().rss}
            for name, processes in self._service.children().items():
                for number, each in enumerate(sorted(processes, key=lambda one: one.pid), start=1):
                    key = f"worker {number}" if name == "worker" else name
                    with contextlib.suppress(psutil.NoSuchProcess):
                        sizes[key] = max(sizes.get(key, 0), each.memory_info().rss)
            for key, size in sizes.items():
                self.record.memory.setdefault(key, []).append((now, size))


async def happened(event: asyncio.Event, seconds: float) -> bool:
    """Waits for the event, but no longer than that; whether it came."""
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()


def put_version(directory: Path, version: int) -> None:
    """The same bundle as a newer version, complete at once; the one before the last goes."""
    source = (
        directory / str(version - 1)
        if (directory / str(version - 1)).exists()
        else max(directory.iterdir(), key=lambda each: int(each.name))
    )
    aside = directory.parent.parent / f"{directory.name}-{version}"
    shutil.copytree(source, aside)
    manifest = json.loads((aside / "bundle.json").read_text(encoding="utf-8"))
    (aside / "bundle.json").write_text(json.dumps({**manifest, "version": str(version)}), encoding="utf-8")
    aside.rename(directory / str(version))
    for old in sorted(directory.iterdir(), key=lambda each: int(each.name))[:-2]:
        shutil.rmtree(old)


def repository(models: Path, folder: Path) -> Path:
    """A copy of the newest bundles as version 1, with a third model, `steady`, the classifier by another name."""
    copied = folder / "models"
    newest = {bundle.manifest.name: bundle.directory for bundle in find_bundles(models)}
    for name, source in {**newest, "steady": newest["sentiment"]}.items():
        directory = Path(shutil.copytree(source, copied / name / "1"))
        manifest = json.loads((directory / "bundle.json").read_text(encoding="utf-8"))
        named = {**manifest, "name": name, "version": "1"}
        (directory / "bundle.json").write_text(json.dumps(named), encoding="utf-8")
    return copied


def growth(samples: list[tuple[float, int]], since: float) -> tuple[float, float, float]:
    """Median megabytes of the first and of the last tenth of the time after `since`, and the growth between them."""
    counted = [size / 1e6 for at, size in samples if at >= since]
    tenth = max(1, len(counted) // 10)
    first, last = statistics.median(counted[:tenth]), statistics.median(counted[-tenth:])
    return first, last, last / first - 1


def report(record: Record, tolerances: dict[str, float], minutes: float, warm_up: float) -> None:
    """Prints the figures, and adds to what is wrong what has grown."""
    answered = sum(record.answers.values())
    print(f"{minutes:.0f} minutes: {answered} requests answered as they must be, {record.hung_up} clients hung up,")
    print(f"{len(record.kills)} kills of an engine, {record.reloads} exchanges of a bundle.")
    print(f"scores equal to {', '.join(f'{each:g} ({name})' for name, each in sorted(tolerances.items()))}.")
    for kind, count in sorted(record.answers.items()):
        print(f"  {kind:32} {count:8}")
    ranked = sorted(record.latencies)
    shown = (f"p{percent} {1000 * ranked[int(len(ranked) * percent / 100)]:.0f} ms" for percent in (50, 99))
    print(f"latency {', '.join(shown)}, max {1000 * ranked[-1]:.0f} ms")
    print(f"resident megabytes after {warm_up:.0f} minutes, at the end, growth:")
    for name, samples in sorted(record.memory.items()):
        first, last, grown = growth(samples, warm_up * 60)
        print(f"  {name:12} {first:8.1f} {last:8.1f} {grown:+8.2%}")
        if grown > MAX_GROWTH:
            record.blame(f"{name} has grown by {grown:.1%}")


def main() -> int:
    """Runs it and prints the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=Path("models"), help="model repository (default: models)")
    parser.add_argument("--minutes", type=float, default=30.0, help="how long (default: 30)")
    parser.add_argument("--warm-up", type=float, default=10.0, help="minutes in which memory may grow (default: 10)")
    parser.add_argument("--connections", type=int, default=12, help="requests in flight (default: 12)")
    parser.add_argument("--runtime", choices=get_args(RuntimeName), default=OFFLINE_RUNTIME,
                        help=f"of the service (default: {OFFLINE_RUNTIME}, that of the offline run)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, help="of the traffic and the trouble (default: 1)")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        models = repository(arguments.models, Path(folder))
        tolerances = {each.manifest.name: tolerance_of(each, arguments.runtime) for each in find_bundles(models)}
        asked = list(questions(models, tolerances, rng, 100))
        flags = ("--runtime", arguments.runtime, "--admin", "--api-workers", "2", "--max-restarts", "0")
        with serving(models, *flags) as service:
            asked += asyncio.run(joint_questions(service.url, models, tolerances[LM], rng, 20))
            soak = Soak(service, models, rng, asked)
            record = asyncio.run(soak.run(arguments.minutes * 60, arguments.connections))
            if not service.is_ready():
                record.blame("the service was not ready at the end")
        if service.process.returncode:
            record.blame(f"the service ended with status {service.process.returncode}")
    report(record, tolerances, arguments.minutes, arguments.warm_up)
    print(f"{len(record.wrong)} wrong.")
    for sentence in record.wrong[:20]:
        print(f"  {sentence}")
    return 1 if record.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
