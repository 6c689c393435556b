"""Speed and memory of `ernie-train corpus build` with rjieba's boundaries, and of the reference's way.

    python -m benchmarks.corpus --data ../shared/data
    python -m benchmarks.corpus --data ../shared/data --gigabytes 2 --rounds 1 --workers 2

Every build is the command in a process of its own, start included. "per core" divides by the workers; CPU time counts
all processes of the build. Memory is the sum of the resident sets of all its processes, sampled: pages that they share
count more than once. With --gigabytes the text is repeated, a running number in front of each document, so that no
document is a duplicate.

The reference is what PaddleNLP's create_pretraining_data does with each document, written from PaddleNLP's public API:
jieba for words, ErnieTokenizer for tokens, and `##` in front of the characters inside a word. It runs on a slice.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from native import ErnieTokenizer
from training.corpus.cleaning import sentences
from training.corpus.inputs import Piece, Reader, find_inputs


@dataclass
class Run:
    """One build: megabytes of text, seconds by the clock and of CPU, and megabytes of memory at the peak."""

    megabytes: float
    seconds: float
    cpu_seconds: float
    peak: float


def build(inputs: Path, vocab: Path, workers: int) -> Run:
    """Runs the command once and throws the corpus away."""
    megabytes = sum(path.stat().st_size for path in find_inputs([inputs])) / 1e6
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "training.cli", "corpus", "build", str(inputs), "--vocab", str(vocab)]
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
    """Documents of all files, over and over."""
    reader = Reader(by_line=False, key="text")
    while True:
        for path in find_inputs([inputs]):
            yield from reader.documents(Piece(path, 0, path.stat().st_size))


def write_repeated(inputs: Path, output: Path, size: int) -> None:
    """A text file of `size` bytes or a little more, no document twice."""
    written = 0
    with output.open("wb") as file:
        for number, text in enumerate(documents(inputs)):
            written += file.write(f"{number}：{text}\n\n".encode())
            if written >= size:
                return


class Reference:
    """Ids of a document as PaddleNLP's script makes them."""

    LONGEST_WORD = 6

    def __init__(self, vocab: Path) -> None:
        import jieba
        from paddlenlp.transformers import ErnieTokenizer as PaddleTokenizer

        jieba.setLogLevel(60)
        jieba.initialize()
        self._cut = jieba.lcut
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
            file.write("\n".join(ErnieTokenizer.from_file(vocab).tokens))
            file.flush()
            self._tokenizer = PaddleTokenizer(vocab_file=file.name)
        self._tokenizer.extend_chinese_char()

    def encode(self, document: str) -> list[list[int]]:
        """Ids of each sentence."""
        return [self._encode(sentence) for sentence in sentences(document)]

    def _encode(self, sentence: str) -> list[int]:
        words = set(self._cut(sentence))
        tokens = self._tokenizer.tokenize(sentence)
        marked: list[str] = []
        position = 0
        while position < len(tokens):
            length = 1
            if "\u4e00" <= tokens[position][0] <= "\u9fa5":
                lengths = range(min(self.LONGEST_WORD, len(tokens) - position), 1, -1)
                length = next((n for n in lengths if "".join(tokens[position : position + n]) in words), 1)
            marked.append(tokens[position])
            marked += [f"##{token}" for token in tokens[position + 1 : position + length]]
            position += length
        return self._tokenizer.convert_tokens_to_ids(marked)


def slice_of(inputs: Path, size: int) -> list[str]:
    """Every hundredth document, up to `size` bytes."""
    chosen, length = [], 0
    for text in itertools.islice(documents(inputs), 0, None, 100):
        chosen.append(text)
        length += len(text.encode())
        if length >= size:
            return chosen
    return chosen


def time_reference(reference: Reference, texts: Sequence[str]) -> float:
    """MB/s of one process."""
    begun = time.perf_counter()
    for text in texts:
        reference.encode(text)
    return sum(len(text.encode()) for text in texts) / 1e6 / (time.perf_counter() - begun)


def median_and_spread(values: Sequence[float], unit: str) -> str:
    """`median unit (lowest-highest)`."""
    return f"{statistics.median(values):.2f} {unit} ({min(values):.2f}–{max(values):.2f})"


def main() -> None:
    """Runs the rounds and prints medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corpus", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with corpus/ and vocab/")
    parser.add_argument("--vocab", type=Path, help="vocabulary (default: DATA/vocab/ernie-3.0.vocab.txt)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="numbers of workers (default: 1 2)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default: 3)")
    parser.add_argument("--gigabytes", type=float, help="repeat the text to this size, without the reference")
    arguments = parser.parse_args()
    vocab = arguments.vocab or arguments.data / "vocab" / "ernie-3.0.vocab.txt"
    inputs = arguments.data / "corpus"
    with tempfile.TemporaryDirectory() as folder:
        if arguments.gigabytes:
            write_repeated(inputs, Path(folder) / "text.txt", int(arguments.gigabytes * 1e9))
            inputs = Path(folder)
        reference = None if arguments.gigabytes else Reference(vocab)
        texts = slice_of(inputs, 300_000) if reference else []
        runs: dict[int, list[Run]] = {workers: [] for workers in arguments.workers}
        reference_rates: list[float] = []
        for _ in range(arguments.rounds):
            for workers, done in runs.items():
                done.append(build(inputs, vocab, workers))
            if reference:
                reference_rates.append(time_reference(reference, texts))
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; medians of {arguments.rounds} (lowest–highest)")
    for workers, done in runs.items():
        per_core = [run.megabytes / run.seconds / workers for run in done]
        print(
            f"{workers} workers, {done[0].megabytes:.0f} MB: {median_and_spread(per_core, 'MB/s per core')}, "
            f"{median_and_spread([run.megabytes / run.cpu_seconds for run in done], 'MB per CPU second')}, "
            f"peak {max(run.peak for run in done):.0f} MB"
        )
        if reference:
            ratios = [rate / other for rate, other in zip(per_core, reference_rates, strict=True)]
            print(f"  against the reference {median_and_spread(ratios, '×')}")
    if reference:
        print(f"reference, one process: {median_and_spread(reference_rates, 'MB/s')}")


if __name__ == "__main__":
    main()
