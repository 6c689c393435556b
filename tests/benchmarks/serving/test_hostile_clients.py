"""What benchmarks.serving.hostile_clients measures and reports, with a real service in a short run."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.serving.hostile_clients import KINDS, Measured
from benchmarks.serving.open_loop import Offered

ROOT = Path(__file__).parents[3]


def offered(milliseconds: float, **changes: object) -> Offered:
    fields = {"arrivals": 100, "late": [0.1] * 100, "answers": Counter({200: 100}), "served": [milliseconds] * 100}
    return Offered(1.0, **{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("with_them", "sentence"),
    [
        (offered(19.0), ""),
        (offered(21.0), "p99 is 2.10 times"),
        (
            offered(10.0, lost=Counter({"ConnectionResetError": 1})),
            "1 good requests with hostile clients got no answer",
        ),
        (offered(10.0, answers=Counter({200: 99, 503: 1})), "1 good requests with hostile clients were not answered"),
        (offered(10.0, late=[0.1] * 90), "the client did not keep up with hostile clients"),
    ],
)
def test_what_is_wrong_is_named(with_them: Offered, sentence: str) -> None:
    measured = Measured("idle", offered(10.0), with_them, 2000.0, 50, 0, 100)
    wrong = measured.wrong(most=2.0)
    assert bool(wrong) == bool(sentence)
    assert sentence in "".join(wrong)


def test_a_short_run_measures_every_kind() -> None:
    command = [sys.executable, "-m", "benchmarks.serving.hostile_clients", "--connections", "40", "--seconds", "0.5"]
    # The latency depends on what else the machine does.
    command += ["--rate", "20", "--settling", "0.2", "--ratio", "1000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in done.stdout.splitlines() if line[0] == "|"}
    for kind in KINDS:
        held, closed, files = (int(value) for value in rows[kind][-3:])
        assert held == 40, done.stdout + done.stderr
        assert closed == 0
        assert files >= 40
    # On a busy machine, half a second may be too short for the client to send all requests.
    sentences = [line for line in done.stdout.splitlines() if line[0] != "|" and "did not keep up" not in line]
    assert not sentences, done.stdout + done.stderr
