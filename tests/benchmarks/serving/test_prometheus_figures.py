"""What the load generator counts, and how a figure of Prometheus is judged by it."""

import json

import pytest

from benchmarks.serving.connection import Answer
from benchmarks.serving.prometheus_figures import Table, Tally, Window, difference
from benchmarks.serving.questions import Question

ASKED = Question("one text", "reviews", "/classify", b"{}")


def answer(status: int, **document: object) -> Answer:
    return Answer(status, "", json.dumps(document).encode())


def test_of_an_answer_its_tokens_windows_and_cut_texts_are_counted() -> None:
    tally = Tally()
    results = [{"windows": 3, "truncated": False}, {"windows": 1, "truncated": True}]
    tally.count(ASKED, answer(200, model="reviews", results=results, usage={"tokens": 50}))
    assert tally.answers == {("/classify", "200"): 1}
    assert (tally.tokens, tally.windows, tally.truncated) == ({("reviews",): 50}, {("reviews",): 4}, {("reviews",): 1})
    assert tally.durations == 1
    assert not tally.failures


def test_a_refusal_is_a_failure_without_a_duration() -> None:
    tally = Tally()
    tally.count(ASKED, answer(429, code="overloaded"))
    tally.count(ASKED, answer(503, code="not_ready"))
    tally.count(ASKED, answer(422, code="invalid_input"))
    assert not tally.served
    assert tally.failures == {("overloaded",): 1, ("not_ready",): 1, ("invalid_input",): 1}
    assert tally.durations == 1


def test_what_ended_before_its_answer_may_have_been_run_or_not() -> None:
    tally = Tally()
    done = answer(200, model="reviews", results=[{"windows": 2, "truncated": False}], usage={"tokens": 50})
    for each in (done, answer(504, code="deadline_exceeded"), answer(503, code="engine_failed"), done):
        tally.count(ASKED, each)
    assert tally.tokens == {("reviews",): 100}
    assert tally.most() == ({("reviews",): 200}, {("reviews",): 8})


def test_between_what_was_run_at_least_and_at_most_nothing_is_off() -> None:
    assert difference(100, 100, 150) == difference(150, 100, 150) == 0
    assert difference(99, 100, 150) == pytest.approx(-0.01)
    assert difference(165, 100, 150) == pytest.approx(0.1)


def test_what_nobody_has_counted_is_off_without_bound() -> None:
    assert difference(102, 100) == pytest.approx(0.02)
    assert difference(0, 0) == 0
    assert difference(1, 0) == float("inf")


class Recorded(Window):
    """Stands for a Prometheus: values by metric."""

    def __init__(self, grown: dict[str, dict[tuple[str, ...], float]]) -> None:
        self._grown = grown

    def grown(self, counter: str, *labels: str) -> dict[tuple[str, ...], float]:
        return self._grown[counter]

    increase = grown


def test_a_counter_that_is_off_by_more_than_two_percent_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    found: dict[tuple[str, ...], float] = {("reviews",): 1019.0, ("titles",): 975.0, ("ghost",): 1.0}
    table = Table(Recorded({"tokens": found}))
    table.counter("tokens:", "tokens", {("reviews",): 1000, ("titles",): 1000}, "model")
    assert table.off == [
        "tokens: ghost: 1, but 0 were counted",
        "tokens: titles: 975, but 1000 were counted",
    ]
    assert "| tokens: reviews | 1,000 | 1,019 | +1.90% | 1,019.0 | +1.90% |" in capsys.readouterr().out


def test_a_counter_that_prometheus_does_not_have_is_off() -> None:
    table = Table(Recorded({"tokens": {}}))
    table.counter("tokens:", "tokens", {("reviews",): 1000}, "model")
    assert len(table.off) == 1
