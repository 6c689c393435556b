"""One process that measures the native tokenizer of one checkout, for `benchmarks.training.tokenizer --before`.

The interpreter of the checkout executes this file, which imports only `native`. For each line of the standard input,
`single`, `batch` or `flat`, it writes the CPU seconds of that work.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

BATCH = 32


def main() -> None:
    """Arguments: the vocabulary, and a file with one text on each line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.tokenizer_process", description=__doc__)
    parser.add_argument("vocab", type=Path, help="vocabulary")
    parser.add_argument("texts", type=Path, help="file with one text on each line")
    arguments = parser.parse_args()
    from native import ErnieTokenizer

    tokenizer = ErnieTokenizer.from_file(arguments.vocab)
    texts = arguments.texts.read_text(encoding="utf-8").split("\n")
    groups = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]

    def single() -> None:
        for text in texts:
            tokenizer.encode(text).ids  # noqa: B018  reading it makes the list

    def batch() -> None:
        for group in groups:
            tokenizer.encode_batch(group).input_ids  # noqa: B018

    def flat() -> None:
        tokenizer.encode_flat(texts)

    work: dict[str, Callable[[], None]] = {"single": single, "batch": batch, "flat": flat}
    for line in sys.stdin:
        begun = time.process_time()
        work[line.strip()]()
        print(time.process_time() - begun, flush=True)


if __name__ == "__main__":
    main()
