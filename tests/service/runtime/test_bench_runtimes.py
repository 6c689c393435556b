"""`ernie-serve bench-runtimes` as people call it, and the advice it gives."""

import subprocess
import sys
from pathlib import Path

from model_build.bundle import open_bundle
from service.engine.bench_runtimes import SHAPES, Candidate, report
from service.runtime.choice import installed
from tests.service.conftest import ROOT


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "service.cli", "bench-runtimes", *arguments]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True)


def test_every_installed_runtime_is_measured_and_one_is_recommended(tiny_models: Path) -> None:
    told = command(str(tiny_models / "characters" / "1"), "--rounds", "1", "--seconds", "0.01")
    assert told.returncode == 0, told.stderr
    for name in installed():
        assert f"\n{name} fp32" in told.stdout
    assert "Fastest with the same answers: --runtime " in told.stdout


def test_what_is_no_bundle_is_one_sentence(tmp_path: Path) -> None:
    told = command(str(tmp_path / "absent"))
    assert told.returncode == 1
    assert told.stderr.startswith("ernie-serve: ")
    assert "Traceback" not in told.stderr


def measured(runtime: str, precision: str, milliseconds: float, score: float) -> Candidate:
    times = {f"{rows}×{length}": [milliseconds] for rows, length in SHAPES}
    return Candidate(runtime, precision, times, [score])  # type: ignore[arg-type]


def test_a_runtime_with_other_answers_is_named_apart_and_one_that_fails_is_not_recommended(tiny_models: Path) -> None:
    broken = Candidate("onnxruntime", "fp32", refusal="its process failed: no memory")
    table = report(
        open_bundle(tiny_models / "reviews" / "1"),
        [measured("fastdeploy", "fp32", 9, 0.5), broken, measured("openvino", "fp32", 6, 0.50001),
         measured("openvino", "bf16", 3, 0.51)],
    ).splitlines()  # fmt: skip
    assert "Fastest with the same answers: --runtime openvino --precision fp32" in table
    assert any(
        line.startswith("Faster still, with scores that differ: --runtime openvino --precision bf16") for line in table
    )
    assert any(line.startswith("onnxruntime fp32") and line.endswith("no memory") for line in table)
    assert "  1.50  " in next(line for line in table if line.startswith("openvino fp32"))
