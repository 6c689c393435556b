"""The checks of benchmarks.serving.chaos fail when they must, and a short run of the command with a real service."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.serving.chaos.ledger import Entry, Ledger, Rising, miscounted
from benchmarks.serving.chaos.observation import Liveness
from benchmarks.serving.chaos.questions_of import inferred, of_version
from benchmarks.serving.chaos.timeline import API_KILLED, API_STOPPED, DESCRIPTORS, ENGINE_KILLED, FOLDER_FULL, Timeline
from benchmarks.serving.connection import Answer
from benchmarks.serving.metrics import Metrics
from benchmarks.serving.questions import Question, classified

ROOT = Path(__file__).parents[3]
SCORES = {"bad": 0.25, "good": 0.75}
PORT = 40_000


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(clock: Clock) -> Ledger:
    made = Ledger(Timeline(clock))
    made.timeline.serves("m", "1")
    return made


def sent(ledger: Ledger, number: int = 1) -> Entry:
    question = Question("one text", "m", "/classify", b"{}", check=of_version(classified([SCORES])))
    now = ledger.timeline.clock()
    return ledger.send(Entry(f"id-{number}", "plain", question, PORT, now, now, "/classify"))


def right(number: int = 1, version: str = "1", good: float = 0.75) -> Answer:
    labels = [{"label": f"good@{version}", "score": good}, {"label": f"bad@{version}", "score": 0.25}]
    document = {"model": "m", "version": version, "results": [{"labels": labels}]}
    return Answer(200, f"id-{number}", json.dumps(document).encode())


def refusal(status: int, code: str) -> Answer:
    return Answer(status, "id-1", json.dumps({"code": code}).encode())


def test_a_right_answer_is_right(ledger: Ledger) -> None:
    ledger.answer(sent(ledger), right())
    ledger.close()
    assert not ledger.wrong
    assert not miscounted(ledger, {("/classify", "200"): 1})


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (right(good=0.76), "offline"),
        (right(number=2), "got the answer of request 'id-2'"),
        (right(version="2"), "version 2, which was not served then"),
        (Answer(200, "id-1", right().body.replace(b"good@1", b"good@2")), "is not of version 1"),
        (refusal(503, "engine_failed"), "got 503, not 200"),
        (refusal(500, "internal"), "got 500, not 200"),
    ],
)
def test_a_wrong_answer_is_found(ledger: Ledger, answer: Answer, sentence: str) -> None:
    ledger.answer(sent(ledger), answer)
    assert len(ledger.wrong) == 1
    assert sentence in ledger.wrong[0]


def test_a_lost_answer_is_found(ledger: Ledger) -> None:
    ledger.lose(sent(ledger), "ConnectionResetError")
    assert "got no answer: ConnectionResetError" in ledger.wrong[0]


def test_a_request_without_an_outcome_is_lost(ledger: Ledger) -> None:
    sent(ledger)
    ledger.close()
    assert "no outcome" in ledger.wrong[0]


def test_a_second_answer_is_found(ledger: Ledger) -> None:
    entry = sent(ledger)
    ledger.answer(entry, right())
    ledger.answer(entry, right())
    assert "second answer" in ledger.wrong[0]


def test_bytes_after_the_last_answer_are_found(ledger: Ledger) -> None:
    entry = sent(ledger)
    ledger.answer(entry, right())
    ledger.surplus(entry, b"HTTP/1.1 200 OK")
    assert "15 bytes after its answer" in ledger.wrong[0]


def test_a_killed_engine_allows_refusals_of_its_model_at_that_time_only(ledger: Ledger, clock: Clock) -> None:
    with ledger.timeline.fault(ENGINE_KILLED, "other"):
        ledger.answer(sent(ledger, 1), refusal(503, "engine_failed"))
    assert len(ledger.wrong) == 1
    with ledger.timeline.fault(ENGINE_KILLED, "m"):
        ledger.answer(sent(ledger, 1), Answer(503, "id-1", b'{"code": "engine_failed"}'))
    assert len(ledger.wrong) == 2  # its id had its answer already
    with ledger.timeline.fault(ENGINE_KILLED, "m"):
        ledger.answer(sent(ledger, 3), Answer(503, "id-3", b'{"code": "engine_failed"}'))
        ledger.answer(sent(ledger, 4), Answer(429, "id-4", b'{"code": "overloaded"}'))
    assert len(ledger.wrong) == 3
    assert "got 429" in ledger.wrong[2]
    clock.now += 60
    ledger.answer(sent(ledger, 5), Answer(503, "id-5", b'{"code": "engine_failed"}'))
    assert len(ledger.wrong) == 4


@pytest.mark.parametrize(("port", "wrong"), [(PORT, 0), (PORT + 1, 1)])
def test_a_killed_api_process_allows_lost_answers_on_its_own_connections(ledger: Ledger, port: int, wrong: int) -> None:
    entry = sent(ledger)
    with ledger.timeline.fault(API_KILLED) as fault:
        fault.ports = frozenset({port})
        ledger.lose(entry, "ConnectionResetError")
    assert len(ledger.wrong) == wrong


def test_a_connection_opened_after_the_kill_may_not_lose_its_answer(ledger: Ledger, clock: Clock) -> None:
    with ledger.timeline.fault(API_KILLED) as fault:
        fault.ports = frozenset({PORT})
        clock.now += 0.1
        ledger.lose(sent(ledger), "ConnectionResetError")
    assert len(ledger.wrong) == 1


def test_without_free_descriptors_only_new_connections_may_break(ledger: Ledger, clock: Clock) -> None:
    before = sent(ledger, 1)
    clock.now += 10
    with ledger.timeline.fault(DESCRIPTORS):
        ledger.lose(sent(ledger, 2), "ConnectionResetError")
        assert not ledger.wrong
        ledger.lose(before, "ConnectionResetError")
    assert len(ledger.wrong) == 1


def test_a_replaced_version_may_answer_only_requests_from_before(ledger: Ledger, clock: Clock) -> None:
    before = sent(ledger, 1)
    clock.now += 1
    ledger.timeline.serves("m", "2")
    during = sent(ledger, 2)
    clock.now += 1
    ledger.timeline.replaced("m")
    clock.now += 1
    after = sent(ledger, 3)
    ledger.answer(before, right(1, "1"))
    ledger.answer(during, right(2, "2"))
    assert not ledger.wrong
    ledger.answer(after, right(3, "1"))
    assert "version 1, which was not served then" in ledger.wrong[0]


@pytest.mark.parametrize(
    ("count", "sentence"),
    [(3, ""), (4, ""), (2, "was counted 2 times, not 3 to 4"), (5, "was counted 5 times, not 3 to 4"), (0, "0 times")],
)
def test_the_counters_fit_the_requests(ledger: Ledger, count: int, sentence: str) -> None:
    for number in range(3):
        ledger.answer(sent(ledger, number), right(number))
    ledger.leave(sent(ledger, 3))
    found = miscounted(ledger, {("/classify", "200"): count})
    assert bool(found) == bool(sentence)
    assert sentence in "".join(found)


def test_a_client_that_left_is_no_internal_error_and_is_counted_once(ledger: Ledger) -> None:
    ledger.leave(sent(ledger))
    assert miscounted(ledger, {("/classify", "500"): 1})
    assert miscounted(ledger, {("/classify", "200"): 1, ("/classify", "503"): 1})
    assert not miscounted(ledger, {("/classify", "200"): 1})


@pytest.mark.parametrize(("kind", "allowed"), [(API_KILLED, 1), (API_STOPPED, 1), (FOLDER_FULL, 2), (ENGINE_KILLED, 0)])
def test_faults_allow_that_few_answers_are_not_counted(ledger: Ledger, kind: str, allowed: int) -> None:
    with ledger.timeline.fault(kind):
        for number in range(2):
            ledger.answer(sent(ledger, number), right(number))
    ledger.timeline.clock.now += 60  # type: ignore[attr-defined]
    for number in range(2, 4):
        ledger.answer(sent(ledger, number), right(number))
    assert not miscounted(ledger, {("/classify", "200"): 4 - allowed})
    assert miscounted(ledger, {("/classify", "200"): 3 - allowed})


def scrape(count: str) -> Metrics:
    return Metrics(f'# TYPE a_total counter\na_total{{code="200"}} {count}\n# TYPE b gauge\nb {count}\n')


def test_a_counter_that_falls_or_disappears_is_found() -> None:
    rising = Rising()
    for count in ("1", "3"):
        rising.observe(scrape(count))
    assert not rising.wrong
    rising.observe(scrape("2"))
    assert "fell from 3 to 2" in rising.wrong[0]
    rising.observe(Metrics(""))
    assert "is missing" in rising.wrong[1]


def test_slow_and_missing_answers_of_liveness_are_found(ledger: Ledger, tmp_path: Path) -> None:
    def lines(*found: tuple[float, int, int]) -> Liveness:
        output = tmp_path / "live"
        output.write_text("".join(f"[100.0, {taken}, {status}, {port}]\n" for taken, status, port in found))
        return Liveness.read(output, ledger.timeline, most=250.0)

    assert not lines((0.01, 200, 1)).wrong
    assert "took up to 300 ms" in lines((0.3, 200, 1)).wrong[0]
    assert "not at all" in lines((0.01, 200, 1), (0.02, 0, 2)).wrong[0]
    assert "never measured" in lines().wrong[0]
    with ledger.timeline.fault(API_STOPPED) as fault:
        fault.ports = frozenset({2})
    found = lines((0.01, 200, 1), (5.0, 0, 2))
    assert (found.excepted, found.wrong) == (1, [])


@pytest.mark.parametrize(("version", "score", "right_one"), [("2", 0.75, True), ("1", 0.75, False), ("2", 0.7, False)])
def test_an_answer_of_v2_is_compared(version: str, score: float, right_one: bool) -> None:
    check: Callable[..., str | None] = inferred(SCORES, 1e-4)
    outputs = [
        {"name": "labels", "data": [f"good@{version}", f"bad@{version}"]}, {"name": "scores", "data": [score, 0.25]}
    ]  # fmt: skip
    assert (check({"model_version": "2", "outputs": outputs}) is None) == right_one


def test_a_short_run_holds(tmp_path: Path) -> None:
    output = tmp_path / "run.json"
    command = [sys.executable, "-m", "benchmarks.serving.chaos", "--minutes", "0.15", "--gap", "0.3", "--clients", "8"]
    # The latency depends on what else the machine does.
    command += ["--questions", "3", "--live-ms", "20000", "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    found = json.loads(output.read_text(encoding="utf-8"))
    assert found["faults"]
    assert found["requests"] > 50
    assert found["outcomes"]["plain: right"]
    assert "verdict: passed" in done.stdout
