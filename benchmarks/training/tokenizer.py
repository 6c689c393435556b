"""Speed of the native tokenizer, of fast-tokenizer-python and of Hugging Face `tokenizers`, on one core.

    python -m benchmarks.training.tokenizer --data data
    python -m benchmarks.training.tokenizer --data data --before ../before --rounds 25

The texts are those of ChnSentiCorp. "single" is one call a text with the ids as a list, as in the service; "batch" is
32 texts to padded int64 arrays; "flat" is ids and starts without special tokens, as in the corpus builder: the native
tokenizer takes all texts at once, the others one by one, because they have no such call.

With `--before`, the native tokenizer is compared with that of another checkout of this repository, which has a `.venv`.
Each has a process; they take turns, and the CPU time of the process is measured.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import numpy as np
from fast_tokenizer import ErnieFastTokenizer
from tokenizers import BertWordPieceTokenizer

from benchmarks.arguments import parser_of
from benchmarks.rounds import alternate, median, ratios, seconds, spread
from benchmarks.training.tokenizer_process import BATCH
from native import ErnieTokenizer, PaddedBatch

NATIVE, FAST, HUGGING_FACE = "native", "fast-tokenizer-python", "tokenizers"


def texts_of(data: Path) -> list[str]:
    """Texts of the three ChnSentiCorp files."""
    texts = []
    for name in ("train", "dev", "test"):
        lines = (data / "classification" / "chnsenticorp" / f"{name}.tsv").read_text(encoding="utf-8").split("\n")
        texts += [line.split("\t", 1)[1] for line in lines[1:] if "\t" in line]
    return texts


def batches(texts: Sequence[str]) -> list[list[str]]:
    """Neighbouring texts, BATCH at a time."""
    return [list(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]


def padded(encodings: Sequence[Any]) -> list[np.ndarray]:
    """Arrays of what `encode_batch` of the other tokenizers returns with padding."""
    columns = ("ids", "type_ids", "attention_mask")
    return [np.array([getattr(each, name) for each in encodings]) for name in columns]


def ids_and_starts(encoding: Any) -> tuple[np.ndarray, np.ndarray]:
    """Arrays of what `encode` of the other tokenizers returns."""
    starts = [start for start, _ in encoding.offsets]
    return np.array(encoding.ids, dtype=np.int32), np.array(starts, dtype=np.int32)


def arrays(batch: PaddedBatch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The arrays that `padded` makes, without a copy."""
    return batch.input_ids, batch.token_type_ids, batch.attention_mask


def workloads(vocab: Path, texts: Sequence[str]) -> dict[str, dict[str, Callable[[], Iterable[Any]]]]:
    """The calls by kind of work and tokenizer. The work is done when the results are read."""
    native = ErnieTokenizer.from_file(vocab)
    ids = {token: index for index, token in enumerate(native.tokens)}
    fast, hugging_face = ErnieFastTokenizer(ids), BertWordPieceTokenizer(ids)
    fast_padding, hugging_face_padding = ErnieFastTokenizer(ids), BertWordPieceTokenizer(ids)
    fast_padding.enable_padding()
    hugging_face_padding.enable_padding()
    groups = batches(texts)
    return {
        "single": {
            NATIVE: lambda: (native.encode(text).ids for text in texts),
            FAST: lambda: (fast.encode(text).ids for text in texts),
            HUGGING_FACE: lambda: (hugging_face.encode(text).ids for text in texts),
        },
        "batch": {
            NATIVE: lambda: (arrays(native.encode_batch(group)) for group in groups),
            FAST: lambda: (padded(fast_padding.encode_batch(group)) for group in groups),
            HUGGING_FACE: lambda: (padded(hugging_face_padding.encode_batch(group)) for group in groups),
        },
        "flat": {
            NATIVE: lambda: native.encode_flat(texts)[::2],
            FAST: lambda: (ids_and_starts(fast.encode(text, add_special_tokens=False)) for text in texts),
            HUGGING_FACE: lambda: (
                ids_and_starts(hugging_face.encode(text, add_special_tokens=False)) for text in texts
            ),
        },
    }


def check(vocab: Path, texts: Sequence[str]) -> None:
    """Raises RuntimeError unless the three give the same ids, so that the same work is timed."""
    for kind, by_name in workloads(vocab, texts).items():
        ours, *others = (list(by_name[name]()) for name in (NATIVE, FAST, HUGGING_FACE))
        for theirs in others:
            if kind == "flat":
                theirs = [np.concatenate(column) for column in zip(*theirs, strict=True)]
            if not all(np.array_equal(one, other) for one, other in zip(ours, theirs, strict=True)):
                raise RuntimeError(f"{kind}: the tokenizers disagree on these texts; see tokenizer_parity.")


def timed(work: Callable[[], Iterable[Any]]) -> Callable[[], float]:
    """A call that returns the seconds until every result was read and dropped."""
    return seconds(lambda: deque(work(), maxlen=0))


@contextmanager
def process_of(python: str, vocab: Path, texts: Path) -> Iterator[Callable[[str], float]]:
    """A process with the native tokenizer of an interpreter: kind of work -> CPU seconds."""
    script = Path(__file__).with_name("tokenizer_process.py")
    command = [python, str(script), str(vocab), str(texts)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/") as process:
        given, written = process.stdin, process.stdout
        assert given
        assert written

        def measure(kind: str) -> float:
            given.write(kind + "\n")
            given.flush()
            answer = written.readline()
            if not answer:
                raise RuntimeError(f"the process of {python} ended; its message is above.")
            return float(answer)

        yield measure
        given.close()


def compare(before: Path, vocab: Path, texts: Sequence[str], rounds: int) -> None:
    """Prints, for each kind of work, the CPU time of this build as a ratio to that of another checkout."""
    python = before / ".venv" / "bin" / "python"
    if not python.is_file():
        raise SystemExit(f"{python} does not exist; run `make .venv/.ready` in {before}.")
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".txt") as file, ExitStack() as stack:
        file.write("\n".join(texts))
        file.flush()
        paths = vocab.absolute(), Path(file.name)
        now = stack.enter_context(process_of(sys.executable, *paths))
        then = stack.enter_context(process_of(str(python.absolute()), *paths))
        for kind in ("single", "batch", "flat"):

            def taken(process: Callable[[str], float], kind: str = kind) -> Callable[[], float]:
                return lambda: process(kind)

            calls = {"now": taken(now), "before": taken(then)}
            for call in calls.values():
                call()
            times = alternate(calls, rounds)
            print(
                f"{kind:6} CPU time, now / before: {spread(ratios(times['now'], times['before']))}; "
                f"least {min(times['now']) / min(times['before']):.3f}",
                flush=True,
            )


def main() -> None:
    """Runs the rounds and prints a table for each kind of work."""
    parser = parser_of(__doc__, rounds=7)
    parser.add_argument("--data", type=Path, required=True, help="folder with classification/chnsenticorp and vocab/")
    parser.add_argument("--vocab", type=Path, help="default: vocab/ernie-1.0.vocab.txt of the data")
    parser.add_argument("--before", type=Path, help="another checkout with a .venv: compare its native tokenizer")
    arguments = parser.parse_args()
    texts = texts_of(arguments.data)
    vocab = arguments.vocab or arguments.data / "vocab" / "ernie-1.0.vocab.txt"
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    print(f"{len(texts):,} texts of ChnSentiCorp, {megabytes:.2f} MB of UTF-8; median (lowest–highest) of rounds")
    if arguments.before:
        return compare(arguments.before, vocab, texts, arguments.rounds)
    check(vocab, texts[:640])
    for kind, by_name in workloads(vocab, texts).items():
        times = alternate({name: timed(work) for name, work in by_name.items()}, arguments.rounds)
        for name, taken in times.items():
            compared = "" if name == NATIVE else f"; native is {spread(ratios(taken, times[NATIVE]))} times as fast"
            print(
                f"{kind:6} {name:21} {spread([megabytes / each for each in taken])} MB/s, "
                f"{len(texts) / median(taken):,.0f} texts/s{compared}"
            )


if __name__ == "__main__":
    main()
