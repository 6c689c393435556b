"""Speed and memory of `ernie-train corpus build` with the word boundaries of rjieba.

    python -m benchmarks.training.corpus --data data
    python -m benchmarks.training.corpus --data data --gigabytes 2 --rounds 1 --workers 2

Every build is the command in a separate process, start included. "per core" divides by the workers; CPU time counts
all processes of the build. Memory is the sum of the resident sets of all its processes, sampled: pages that they share
count more than once. With --gigabytes the text is repeated, a running number in front of each document, so that no
document is a duplicate.
"""

from __future__ import annotations

import functools
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.arguments import parser_of
from benchmarks.rounds import alternate, spread
from training.corpus.inputs import Piece, Reader, find_inputs


@dataclass
class Run:
    """One build: megabytes of text, seconds by the clock and of CPU, and megabytes of memory at the peak."""

    megabytes: float
    seconds: float
    cpu_seconds: float
    peak: float


def build(inputs: Path, vocab: Path, workers: int) -> Run:
    """Runs the command once and deletes the corpus."""
    megabytes = sum(path.stat().st_size for path in find_inputs([inputs])) / 1e6
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "training.cli.ernie_train",
            "corpus",
            "build",
            str(inputs),
            "--vocab",
            str(vocab),
        ]
        command += ["--output", f"{folder}/corpus", "--workers", str(workers)]
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        peak = PeakMemory(process.pid)
        if process.wait():
            raise SystemExit("the build failed.")
        seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(megabytes, seconds, cpu, peak.megabytes())


class PeakMemory:
    """Watches a process and its children until it ends."""

    def __init__(self, pid: int) -> None:
        self._process, self._peak = psutil.Process(pid), 0
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while True:
            try:
                family = [self._process, *self._process.children(recursive=True)]
                self._peak = max(self._peak, sum(each.memory_info().rss for each in family))
            except psutil.NoSuchProcess:
                if not self._process.is_running():
                    return
            if self._process.status() == psutil.STATUS_ZOMBIE:
                return
            time.sleep(0.05)

    def megabytes(self) -> float:
        self._thread.join()
        return self._peak / 1e6


def documents(inputs: Path) -> Iterator[str]:
    """Documents of all files, endlessly repeated."""
    reader = Reader(by_line=False, key="text")
    while True:
        for path in find_inputs([inputs]):
            yield from reader.documents(Piece(path, 0, path.stat().st_size))


def write_repeated(inputs: Path, output: Path, size: int) -> None:
    """A text file of at least `size` bytes without duplicate documents."""
    written = 0
    with output.open("wb") as file:
        for number, text in enumerate(documents(inputs)):
            written += file.write(f"{number}：{text}\n\n".encode())
            if written >= size:
                return


def main() -> None:
    """Runs the rounds and prints medians."""
    parser = parser_of(__doc__, rounds=3)
    parser.add_argument("--data", type=Path, required=True, help="folder with corpus/ and vocab/")
    parser.add_argument("--vocab", type=Path, help="vocabulary (default: DATA/vocab/ernie-3.0.vocab.txt)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="numbers of workers (default: 1 2)")
    parser.add_argument("--gigabytes", type=float, help="repeat the text to this size")
    arguments = parser.parse_args()
    vocab = arguments.vocab or arguments.data / "vocab" / "ernie-3.0.vocab.txt"
    inputs = arguments.data / "corpus"
    with tempfile.TemporaryDirectory() as folder:
        if arguments.gigabytes:
            write_repeated(inputs, Path(folder) / "text.txt", int(arguments.gigabytes * 1e9))
            inputs = Path(folder)
        calls: dict[int, Callable[[], Run]] = {
            workers: functools.partial(build, inputs, vocab, workers) for workers in arguments.workers
        }
        runs = alternate(calls, arguments.rounds)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; medians of {arguments.rounds} (lowest–highest)")
    for workers, done in runs.items():
        per_core = [run.megabytes / run.seconds / workers for run in done]
        print(
            f"{workers} workers, {done[0].megabytes:.0f} MB: {spread(per_core, ' MB/s per core')}, "
            f"{spread([run.megabytes / run.cpu_seconds for run in done], ' MB per CPU second')}, "
            f"peak {max(run.peak for run in done):.0f} MB"
        )


if __name__ == "__main__":
    main()
