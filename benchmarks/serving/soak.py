"""Half an hour of everything at once: mixed traffic while engines are killed, models exchanged and clients hang up.

    python -m benchmarks.serving.soak --minutes 30

Every accepted request must get exactly one answer, its own, and equal to that of an offline run of the same bundle
(benchmarks/serving/questions.py; masks that are filled together are compared with the answers before the traffic, and
their scores with an offline run). When an engine is killed, requests to its model may fail for a while, and no others.
No process may grow. Ends with status 1 where one of these does not hold.

The offline run uses ONNX Runtime, and so does the service unless `--runtime` names another. Three models are served.
Two of them have their engines killed with SIGKILL and their bundles exchanged for newer ones, by SIGHUP and by
/admin/reload in turn. The third, `steady`, is left alone, so that the memory of one engine can be watched to the end.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import json
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.arguments import parser_of
from benchmarks.rounds import percentile, progress
from benchmarks.serving.connection import Answer, HttpConnection, post
from benchmarks.serving.growth import Memory, happened
from benchmarks.serving.offline import OfflineModel
from benchmarks.serving.questions import (
    OFFLINE_RUNTIME,
    REFUSED,
    Question,
    classified,
    close,
    filled,
    masked_at_random,
    same_fills,
    tolerance_of,
)
from benchmarks.serving.service import Service, serving
from benchmarks.serving.texts import TEXTS, body
from model_build.bundle import find_bundles

# A killed engine is replaced within this time; until then its model, and only this model, may answer 503.
RECOVERY_SECONDS = 30.0
SAMPLE_SECONDS = 5.0
LM = "masked-lm"


@dataclass
class Record:
    """What happened."""

    answers: collections.Counter[str] = field(default_factory=collections.Counter)
    wrong: list[str] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    hung_up: int = 0
    kills: list[tuple[float, str]] = field(default_factory=list)
    """The time, and the model whose engine was killed."""
    reloads: int = 0


def questions(models: Path, tolerances: dict[str, float], rng: random.Random, count: int) -> Iterator[Question]:
    """`count` of each kind, with their offline answers; a text has 1 to 24 sentences."""
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
        text = masked_at_random(some_text(3), rng)
        check = filled(lm.fill(text), tolerances[LM])
        yield Question("one mask", LM, "/fill-mask", body(inputs=text, top_k=5), check=check)
        text = masked_at_random(masked_at_random(some_text(3), rng), rng)
        if text.count("[MASK]") == 2:
            check = filled(lm.fill(text), tolerances[LM])
            yield Question("two masks", LM, "/fill-mask", body(inputs=text, top_k=5), check=check)


async def joint_questions(url: str, models: Path, tolerance: float, rng: random.Random, count: int) -> list[Question]:
    """Masks filled together, with the answers of the idle service; their scores are compared with an offline run."""
    connection, lm = HttpConnection(url), OfflineModel(models / LM / "1")
    asked = []
    for _ in range(count):
        text = masked_at_random(rng.choice(TEXTS[:5]), rng, 2)
        sent = body(inputs=text, strategy="joint", top_k=3)
        answer = json.loads((await connection.ask(post(url, "/fill-mask", sent))).body)
        for fill in answer["results"][0]["fills"]:
            expected = lm.score_together(text, fill["tokens"])
            if not close(fill["token_score"], expected, tolerance):
                raise SystemExit(f"{text}: {fill} has the score {expected} offline.")
        asked.append(Question("two masks together", LM, "/fill-mask", sent, check=same_fills(answer, tolerance)))
    connection.close()
    return asked


class Soak:
    """One run."""

    def __init__(self, service: Service, models: Path, rng: random.Random, asked: list[Question]) -> None:
        self._service = service
        self._models = models
        self._rng = rng
        self._asked = asked
        self._serial = itertools.count()
        self.memory = Memory(service)
        self.record = Record()

    async def run(self, seconds: float, connections: int) -> None:
        """Traffic, faults and samples of memory at the same time, for `seconds`."""
        ended = asyncio.Event()
        work = [self._client(ended) for _ in range(connections)]
        watching = self.memory.watch(ended, SAMPLE_SECONDS)
        tasks = [asyncio.create_task(each) for each in (*work, self._faults(ended), watching)]
        for _ in progress(range(int(seconds)), unit="s"):
            await asyncio.sleep(1)
        ended.set()
        await asyncio.gather(*tasks)

    async def _client(self, ended: asyncio.Event) -> None:
        connection = HttpConnection(self._service.url)
        while not ended.is_set():
            question = self._rng.choice(REFUSED if self._rng.random() < 0.03 else self._asked)
            own = f"soak-{next(self._serial)}"
            request = post(self._service.url, question.path, question.body, headers=f"X-Request-ID: {own}\r\n")
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
                self.record.wrong.append(f"{own} ({question.kind}) got no answer: {type(error).__name__} {error}")
                continue
            self.record.latencies.append(1000 * (time.monotonic() - begun))
            self._judge(question, own, answer, begun)
        connection.close()

    def _judge(self, question: Question, own: str, answer: Answer, begun: float) -> None:
        wrong = self.record.wrong
        if answer.request_id != own:
            wrong.append(f"{own} got the answer of {answer.request_id}")
        elif answer.status == 503 and any(
            name == question.model and begun - kill < RECOVERY_SECONDS for kill, name in self.record.kills
        ):
            self.record.answers[f"503 {json.loads(answer.body)['code']}, after a kill"] += 1
        elif answer.status != question.status:
            wrong.append(f"{own} ({question.kind}) got {answer.status}: {answer.body[:200]!r}")
        elif answer.status == 200 and (fault := question.check(json.loads(answer.body))):
            wrong.append(f"{own} ({question.kind}) is wrong: {fault}")
        else:
            self.record.answers[question.kind] += 1

    async def _faults(self, ended: asyncio.Event) -> None:
        version = 1
        while not await happened(ended, self._rng.uniform(10, 40)):
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
            self.record.wrong.append(f"a reload was answered {answer.status}: {answer.body[:200]!r}")


def put_version(directory: Path, version: int) -> None:
    """Copies the newest bundle as `version`, complete at once, and keeps the two newest."""
    ranked = sorted(directory.iterdir(), key=lambda each: int(each.name))
    aside = directory.parent.parent / f"{directory.name}-{version}"
    copied(ranked[-1], aside, version=str(version))
    aside.rename(directory / str(version))
    for old in ranked[:-1]:
        shutil.rmtree(old)


def copied(bundle: Path, target: Path, **changes: str) -> None:
    """A copy of the bundle with other entries in its manifest."""
    shutil.copytree(bundle, target)
    manifest = json.loads((target / "bundle.json").read_text(encoding="utf-8"))
    (target / "bundle.json").write_text(json.dumps({**manifest, **changes}), encoding="utf-8")


def repository(models: Path, folder: Path) -> Path:
    """A copy of the newest bundles as version 1, with a third model, `steady`, which is the classifier again."""
    newest = {bundle.manifest.name: bundle.directory for bundle in find_bundles(models)}
    for name, source in {**newest, "steady": newest["sentiment"]}.items():
        copied(source, folder / "models" / name / "1", name=name, version="1")
    return folder / "models"


def report(soak: Soak, tolerances: dict[str, float], minutes: float, warm_up: float) -> None:
    """Prints the figures, and adds every process that has grown to what is wrong."""
    record = soak.record
    answered = sum(record.answers.values())
    print(f"{minutes:.0f} minutes: {answered} requests answered correctly, {record.hung_up} clients hung up,")
    print(f"{len(record.kills)} kills of an engine, {record.reloads} exchanges of a bundle.")
    print(f"scores equal to {', '.join(f'{each:g} ({name})' for name, each in sorted(tolerances.items()))}.")
    for kind, count in sorted(record.answers.items()):
        print(f"  {kind:32} {count:8}")
    shown = (f"p{percent} {percentile(record.latencies, percent):.0f} ms" for percent in (50, 99))
    print(f"latency {', '.join(shown)}, max {max(record.latencies):.0f} ms")
    print(f"resident megabytes after {warm_up:.0f} minutes, at the end, growth:")
    record.wrong += soak.memory.report(warm_up * 60)
    print(f"{len(record.wrong)} wrong.")
    for sentence in record.wrong[:20]:
        print(f"  {sentence}")


def main() -> int:
    """Runs it and prints the report."""
    parser = parser_of(__doc__, models=True, seed=True)
    parser.add_argument("--minutes", type=float, default=30.0, help="duration (default: 30)")
    parser.add_argument("--warm-up", type=float, default=10.0, help="minutes in which memory may grow (default: 10)")
    parser.add_argument("--connections", type=int, default=12, help="requests in flight (default: 12)")
    parser.add_argument(
        "--runtime", default=OFFLINE_RUNTIME, help=f"of the service (default: {OFFLINE_RUNTIME}, as in the offline run)"
    )
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        models = repository(arguments.models, Path(folder))
        tolerances = {each.manifest.name: tolerance_of(each, arguments.runtime) for each in find_bundles(models)}
        asked = list(questions(models, tolerances, rng, 100))
        flags = ("--runtime", arguments.runtime, "--api-workers", "2", "--max-restarts", "0")
        with serving(models, *flags, settings={"ERNIE_ADMIN": "true"}) as service:
            asked += asyncio.run(joint_questions(service.url, models, tolerances[LM], rng, 20))
            soak = Soak(service, models, rng, asked)
            asyncio.run(soak.run(arguments.minutes * 60, arguments.connections))
            if not service.is_ready():
                soak.record.wrong.append("the service was not ready at the end")
        if service.process.returncode:
            soak.record.wrong.append(f"the service ended with status {service.process.returncode}")
    report(soak, tolerances, arguments.minutes, arguments.warm_up)
    return 1 if soak.record.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
