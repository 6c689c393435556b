"""Size, accuracy and speed of classifiers beside that of the first, in every runtime, in one run.

    python -m benchmarks.compressed models/sentiment/2 models/sentiment/3 --texts test.tsv

Every bundle reads the same labelled texts, sorted by length in batches of 32, in every installed runtime, each in a
process of its own; they take turns. Speed is the median of the rounds, its spread beside it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from model_build.bundle import Bundle, open_bundle
from service.runtime.base import Precision, RuntimeName, RuntimeOptions, RuntimeUnavailable
from service.runtime.load import installed, load_runtime
from training.datasets.table import read_examples
from training.tasks.tokenizer import Tokenizer, pad_batch

BATCH = 32
WAYS: tuple[tuple[RuntimeName, Precision], ...] = (
    ("fastdeploy", "fp32"),
    ("onnxruntime", "fp32"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
)


@dataclass
class Candidate:
    """A bundle in a runtime, and what was measured of it."""

    bundle: Path
    runtime: RuntimeName
    precision: Precision
    seconds: list[float] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    refusal: str | None = None

    @property
    def speed(self) -> float:
        """Seconds for all texts, the median of the rounds."""
        return statistics.median(self.seconds)


def measure(candidate: Candidate, texts: Path, threads: int) -> None:
    """The process of one round: a line of JSON with the seconds for all texts and the best label of each."""
    bundle = open_bundle(candidate.bundle)
    options = RuntimeOptions(runtime=candidate.runtime, precision=candidate.precision, cpu_threads=threads)
    try:
        runtime = load_runtime(bundle, options)
    except RuntimeUnavailable as error:
        print(json.dumps({"refusal": str(error)}))
        return
    encoder = Tokenizer(bundle.vocab_path)
    limit = bundle.manifest.max_length
    rows = [encoder.encode(each.text, each.text_pair, max_length=limit) for each in read_examples(texts)]
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].ids))
    batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    inputs = [
        {
            "input_ids": pad_batch([rows[index].ids for index in batch], encoder.pad),
            "token_type_ids": pad_batch([rows[index].token_type_ids for index in batch], 0),
        }
        for batch in batches
    ]
    runtime.run(inputs[-1])
    labels = np.zeros(len(rows), dtype=int)
    begun = time.perf_counter()
    for batch, arrays in zip(batches, inputs, strict=True):
        labels[batch] = runtime.run(arrays)["logits"].argmax(axis=1)
    print(json.dumps({"seconds": time.perf_counter() - begun, "labels": labels.tolist()}))


def measure_once(candidate: Candidate, texts: Path, threads: int) -> None:
    """One round of a candidate, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.compressed", str(candidate.bundle), "--texts", str(texts)]
    command += ["--cpu-threads", str(threads), "--one", candidate.runtime, candidate.precision]
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        candidate.refusal = (ended.stderr.strip().splitlines() or [f"status {ended.returncode}"])[-1]
        return
    told = json.loads(ended.stdout.splitlines()[-1])
    candidate.refusal = told.get("refusal")
    if candidate.refusal is None:
        candidate.seconds.append(told["seconds"])
        candidate.labels = told["labels"]


def megabytes(bundle: Bundle) -> float:
    """Of all graphs."""
    return sum(path.stat().st_size for path in (bundle.directory / "graph").iterdir()) / 1e6


def report(candidates: Sequence[Candidate], truth: Sequence[int]) -> str:
    """A table in Markdown; ratios are to the first bundle in the same runtime, and to the first candidate of all."""
    able = [each for each in candidates if each.refusal is None]
    lines = [
        "| bundle | MB | runtime | accuracy | labels as the first | texts/s | spread | times the first bundle "
        "| times the first row |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for each in able:
        bundle = open_bundle(each.bundle)
        first = next(other for other in able if (other.runtime, other.precision) == (each.runtime, each.precision))
        texts = len(truth)
        lines.append(
            f"| {each.bundle.parent.name} {each.bundle.name} | {megabytes(bundle):.1f} "
            f"| {each.runtime} {each.precision} | {100 * np.mean(np.array(each.labels) == truth):.2f} % "
            f"| {100 * np.mean(np.array(each.labels) == able[0].labels):.2f} % | {texts / each.speed:.0f} "
            f"| {texts / max(each.seconds):.0f}–{texts / min(each.seconds):.0f} "
            f"| {first.speed / each.speed:.2f} | {able[0].speed / each.speed:.2f} |"
        )
    lines += [f"{each.bundle} {each.runtime} {each.precision}: {each.refusal}" for each in candidates if each.refusal]
    return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compressed", description=__doc__.splitlines()[0])
    parser.add_argument("bundles", type=Path, nargs="+", help="bundles of classifiers with one vocabulary of labels")
    parser.add_argument("--texts", type=Path, required=True, help="labelled table, such as ChnSentiCorp's test.tsv")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default: 5)")
    parser.add_argument("--cpu-threads", type=int, default=1, help="threads of a forward pass (default: 1)")
    parser.add_argument("--one", nargs=2, metavar=("RUNTIME", "PRECISION"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        measure(Candidate(arguments.bundles[0], *arguments.one), arguments.texts, arguments.cpu_threads)
        return
    first = open_bundle(arguments.bundles[0]).manifest
    names = first.provenance.get("labels", first.labels)
    truth = [names.index(each.label) for each in read_examples(arguments.texts)]
    ways = [way for way in WAYS if way[0] in installed()]
    candidates = [Candidate(bundle, *way) for way, bundle in itertools.product(ways, arguments.bundles)]
    for _ in range(arguments.rounds):
        for each in candidates:
            if each.refusal is None:
                measure_once(each, arguments.texts, arguments.cpu_threads)
    print(report(candidates, truth))


if __name__ == "__main__":
    main()
