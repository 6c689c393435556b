"""Figures of finetuning on the named data sets, from a pretrained checkpoint and from random weights, as a table.

    python -m benchmarks.training.finetuning --data data --pretrained output/demo/long/model --text output/demo/text/*

Three seeds of each, the same flags for both starts; hours on a CPU. A run that was killed resumes, and a finished one
is not repeated, so the command can be repeated until the table is complete. `--text` is the text that the checkpoint
was pretrained on: evaluation texts that occur in it, as a document or as a line of one, are counted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.arguments import parser_of

SEEDS = ("1", "2", "3")
RATE = "5e-4"


@dataclass(frozen=True)
class Row:
    """One named data set with its settings."""

    dataset: str
    metrics: Mapping[str, str]
    """The name in results.json, and the name in the table."""
    epochs: int
    max_seq_length: int
    published: str
    """Figures of official checkpoints hundreds of times as large."""


ACCURACY = {"accuracy": "accuracy"}
ROWS = (
    Row("chnsenticorp", ACCURACY, 4, 192, "ERNIE 1.0 base 95.4"),
    Row("tnews", ACCURACY, 10, 64, "ERNIE 1.0 base 58.9, on CLUE's dev with 45 times as many examples"),
    Row("thucnews", ACCURACY, 2, 64, "none on this split"),
    Row("msra_ner", {"f1": "F1"}, 2, 128, "ERNIE 1.0 base 93.8"),
    Row("drcd_to_cmrc2018", {"exact_match": "EM", "f1": "F1"}, 1, 256,
        "ERNIE 1.0 base 65.1 EM, 85.1 F1, trained on CMRC 2018 itself"),
)  # fmt: skip


def run(row: Row, start: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """The content of results.json of the job, which is run where the file is missing."""
    output = arguments.output / f"{row.dataset}-{start}"
    results = output / "results.json"
    if not results.is_file():
        command = [sys.executable, "-m", "training.cli.ernie_train.ernie_train", "finetune", "--dataset", row.dataset]
        command += ["--data", str(arguments.data), "--pretrained", str(arguments.pretrained), "--output", str(output)]
        command += ["--epochs", str(row.epochs), "--max-seq-length", str(row.max_seq_length)]
        command += ["--learning-rate", RATE, "--seeds", *SEEDS]
        subprocess.run(command + ["--from-scratch"] * (start == "scratch"), check=True)
    found: dict[str, Any] = json.loads(results.read_text(encoding="utf-8"))
    return found


def percent(spread: Mapping[str, float]) -> str:
    """`mean ± standard deviation`, in percent."""
    return f"{100 * spread['mean']:.1f} ± {100 * spread['standard_deviation']:.1f}"


def lines_of(row: Row, scratch: Mapping[str, Any], pretrained: Mapping[str, Any], overlap: str) -> list[str]:
    """A line for every figure of all test examples, and one for those that do not occur in train."""
    lines = []
    for part, shown in (("test", "test"), ("test_not_in_train", "test, not in train")):
        if part not in scratch["figures"]:
            continue
        examples = scratch["runs"][0]["figures"][part]
        count = next(examples[name] for name in ("examples", "sentences", "questions") if name in examples)
        in_train = scratch["runs"][0]["figures"]["test"]["in_train"]
        for metric, name in row.metrics.items():
            without, with_it = (each["figures"][part][metric] for each in (scratch, pretrained))
            lines.append(
                f"| {row.dataset} | {shown}, {count:,} | {name} | {percent(without)} | {percent(with_it)} "
                f"| {100 * (with_it['mean'] - without['mean']):+.1f} | {in_train if part == 'test' else 0} "
                f"| {overlap if part == 'test' else ''} | {row.published if part == 'test' else ''} |"
            )
    return lines


def pretraining_overlap(datasets: Sequence[str], data: Path, texts: Sequence[Path]) -> dict[str, str]:
    """By data set the numbers of test texts that are a document, and a line, of the pretraining text."""
    from training.corpus.plain_text import read_documents
    from training.datasets.fingerprints import fingerprint
    from training.datasets.registry import load_named
    from training.datasets.texts import texts_of

    documents, lines = set(), set()
    for path in texts:
        for document in read_documents(path):
            documents.add(fingerprint("".join(document)))
            lines |= {fingerprint(line) for line in document}
    found = {}
    for name in datasets:
        rows = [[fingerprint(text) for text in texts_of(row)] for row in load_named(name, data)["test"]]
        whole, line = (sum(any(mark in seen for mark in row) for row in rows) for seen in (documents, lines))
        found[name] = f"{whole} and {line}"
    return found


def main() -> None:
    """The command."""
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the named sets (default: data)")
    parser.add_argument("--pretrained", type=Path, required=True, help="folder of the pretrained checkpoint")
    parser.add_argument("--text", type=Path, nargs="*", default=[], help="the text that it was pretrained on")
    parser.add_argument("--output", type=Path, default=Path("output/finetuning"), help="folder of the runs")
    arguments = parser.parse_args()
    names = [row.dataset for row in ROWS]
    overlap = pretraining_overlap(names, arguments.data, arguments.text) if arguments.text else {}
    print(
        "| set | part, examples | figure | from scratch | pretrained | difference | in train "
        "| in the pretraining text: documents, lines | published |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for row in ROWS:
        scratch, pretrained = (run(row, start, arguments) for start in ("scratch", "pretrained"))
        print("\n".join(lines_of(row, scratch, pretrained, overlap.get(row.dataset, "not counted"))), flush=True)


if __name__ == "__main__":
    main()
