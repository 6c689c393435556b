"""`ernie-serve bench-runtimes`: which runtime is fastest for a bundle on this machine.

Each runtime runs in a separate process, with the same number of concurrent forward passes as in the service. The
runtimes take turns, so that a change of the machine affects all of them. The answers and times of the others are
compared with those of the first runtime, which is FastDeploy if it is installed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from model_build.bundle import Bundle, BundleError, open_bundle
from model_build.bundle_check import check_bundle
from service.engine.tensors import Tensors
from service.messages.inference import Item
from service.runtime.base import Precision, Runtime, RuntimeName, RuntimeOptions, RuntimeUnavailable
from service.runtime.choice import installed, load_runtime

SHAPES = ((1, 16), (1, 128), (8, 32), (8, 128), (32, 64))
# fp32 arithmetic in another order causes differences up to this size. Larger ones must be checked.
SAME_ANSWERS = 1e-4


@dataclass
class Candidate:
    """One runtime in one precision, with its measurements."""

    runtime: RuntimeName
    precision: Precision
    milliseconds: dict[str, list[float]] = field(default_factory=dict)
    scores: list[float] = field(default_factory=list)
    streams: int = 1
    refusal: str | None = None

    @property
    def name(self) -> str:
        return f"{self.runtime} {self.precision}"

    def median(self, shape: str) -> float:
        """Milliseconds of a forward pass while every stream runs one."""
        return statistics.median(self.milliseconds[shape])

    @property
    def texts_per_second(self) -> float:
        """Throughput over all shapes, with the same number of texts for each."""
        seconds = sum(self.median(_shape(*each)) / 1000 / each[0] for each in SHAPES)
        return self.streams * len(SHAPES) / seconds


def _shape(rows: int, length: int) -> str:
    return f"{rows}×{length}"


def examples(tensors: Tensors, rows: int, length: int) -> list[Item]:
    """Texts of random tokens, always the same; for fill-mask each has one mask."""
    rng = np.random.default_rng(rows * 1000 + length)
    ids = rng.integers(0, tensors.num_tokens, (rows, min(length, tensors.max_length)))
    masks = [ids.shape[1] // 2] if tensors.fill_mask else []
    return [Item(row.tolist(), [0] * len(row), masks) for row in ids]


def measure(directory: Path, options: RuntimeOptions, seconds: float) -> None:
    """Measures one runtime in its process; prints a line of JSON with its times and the scores of its answers."""
    bundle = open_bundle(directory)
    tensors = Tensors(bundle)
    try:
        runtime = load_runtime(bundle, options)
    except RuntimeUnavailable as error:
        print(json.dumps({"refusal": str(error)}))
        return
    times: dict[str, list[float]] = {}
    scores: list[float] = []
    for rows, length in SHAPES:
        items = examples(tensors, rows, length)
        arrays = tensors.inputs(items)
        outputs = tensors.outputs(runtime.run(arrays), items)
        scores += [
            score
            for each in outputs
            for row in (each.scores, *(mask.top_scores for mask in each.masks))
            for score in row
        ]
        with ThreadPoolExecutor(runtime.streams) as threads:
            taken = threads.map(partial(_passes, runtime, arrays, seconds), range(runtime.streams))
        times[_shape(rows, length)] = [each for passes in taken for each in passes]
    medians = {shape: statistics.median(taken) for shape, taken in times.items()}
    print(json.dumps({"milliseconds": medians, "scores": scores, "streams": runtime.streams}))


def _passes(runtime: Runtime, arrays: dict[str, np.ndarray], seconds: float, stream: int) -> list[float]:
    """Milliseconds of each pass that one stream runs in `seconds`; at least five passes."""
    taken: list[float] = []
    over = time.perf_counter() + seconds
    while (begun := time.perf_counter()) < over or len(taken) < 5:
        runtime.run(arrays, stream)
        taken.append((time.perf_counter() - begun) * 1000)
    return taken


def run(bundle: Bundle, streams: int, threads: int, rounds: int, seconds: float) -> list[Candidate]:
    """Measures every installed runtime in turn, `rounds` times."""
    here = installed()
    candidates = [Candidate(name, "fp32") for name in here]
    if "openvino" in here:
        candidates.append(Candidate("openvino", "bf16"))
    for _ in range(rounds):
        for each in candidates:
            if each.refusal is None:
                _measure_once(each, bundle, streams, threads, seconds)
    return candidates


def _measure_once(candidate: Candidate, bundle: Bundle, streams: int, threads: int, seconds: float) -> None:
    options = RuntimeOptions(
        runtime=candidate.runtime, precision=candidate.precision, streams=streams, cpu_threads=threads
    )
    command = [sys.executable, "-m", "service.engine.bench_runtimes", str(bundle.directory)]
    command += [msgspec.json.encode(options).decode(), str(seconds)]
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        last = ended.stderr.strip().splitlines()[-1:] or [f"status {ended.returncode}"]
        candidate.refusal = f"its process failed: {last[0]}"
        return
    told = json.loads(ended.stdout.splitlines()[-1])
    candidate.refusal = told.get("refusal")
    for shape, taken in told.get("milliseconds", {}).items():
        candidate.milliseconds.setdefault(shape, []).append(taken)
    candidate.scores, candidate.streams = told.get("scores", []), told.get("streams", 1)


def report(bundle: Bundle, candidates: list[Candidate]) -> str:
    """The table, and the recommended settings."""
    able = [each for each in candidates if each.refusal is None]
    lines = [f"{bundle.manifest.name}: milliseconds of a forward pass, by texts × tokens (median of the rounds)"]
    lines.append(
        f"{'':18}{'streams':>7}"
        + "".join(f"{_shape(*shape):>9}" for shape in SHAPES)
        + f"{'texts/s':>10}{'ratio':>7}  difference"
    )
    for each in able:
        difference = float(np.abs(np.array(each.scores) - np.array(able[0].scores)).max())
        cells = "".join(f"{each.median(_shape(*shape)):9.2f}" for shape in SHAPES)
        ratio = each.texts_per_second / able[0].texts_per_second
        lines.append(
            f"{each.name:18}{each.streams:7}{cells}{each.texts_per_second:10.0f}{ratio:7.2f}  {difference:.1e}"
        )
    lines += [f"{each.name:18}{each.refusal}" for each in candidates if each.refusal]
    return "\n".join([*lines, *_recommended(able)])


def _recommended(able: list[Candidate]) -> list[str]:
    if not able:
        return ["No runtime can run this bundle."]

    def same(each: Candidate) -> bool:
        return float(np.abs(np.array(each.scores) - np.array(able[0].scores)).max()) <= SAME_ANSWERS

    exact = max((each for each in able if same(each)), key=lambda each: each.texts_per_second)
    lines = [f"Fastest with the same answers: --runtime {exact.runtime} --precision {exact.precision}"]
    fastest = max(able, key=lambda each: each.texts_per_second)
    if fastest is not exact:
        lines.append(
            f"Faster still, with scores that differ: --runtime {fastest.runtime} --precision {fastest.precision}; "
            "check its labels on your own texts first."
        )
    return lines


def main(argv: list[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="ernie-serve bench-runtimes",
        description="Measures every installed runtime on a bundle and recommends one.",
        epilog="Example: ernie-serve bench-runtimes models/sentiment/3 --cpu-threads 1",
    )
    parser.add_argument("bundle", type=Path, help="bundle directory, such as models/sentiment/3")
    parser.add_argument("--streams", type=int, default=0, help="concurrent forward passes; 0: same as the service")
    parser.add_argument("--cpu-threads", type=int, default=0, help="threads of a forward pass; 0: same as the service")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each runtime (default: 3)")
    parser.add_argument("--seconds", type=float, default=0.5, help="time for each shape (default: 0.5)")
    arguments = parser.parse_args(argv)
    try:
        bundle = open_bundle(arguments.bundle)
        check_bundle(bundle)
    except BundleError as error:
        print(f"ernie-serve: {error}", file=sys.stderr)
        return 1
    print(report(bundle, run(bundle, arguments.streams, arguments.cpu_threads, arguments.rounds, arguments.seconds)))
    return 0


if __name__ == "__main__":
    measure(Path(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=RuntimeOptions), float(sys.argv[3]))
