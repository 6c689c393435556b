"""Masked samples per second and core of the batch maker, and of what PaddleNLP's package holds, in the same run.

    python -m benchmarks.batches --rounds 5

One thread; seconds are those of the processor, so that what else the machine does counts for nobody. PaddleNLP 2.8.1
ships no masked-LM data set; what can be run of it is `DataCollatorForWholeWordMask`, which does less: no n-grams, no
sentence order, no truncation, no levels. The plain oracle of the tests does the same work as the native core. The
figure of the ERNIE 1.0 scripts (172 samples/s/core at 512) is published, not measured here.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.synthetic_corpus import VOCABULARY, synthetic_corpus
from tests.native import oracle
from training.pretraining.masked_batches import BatchSettings, MaskedBatches, MaskingVocabulary
from training.pretraining.sample_order import MapSettings, Source, open_source

PUBLISHED = {512: "145–172", 128: "416–544"}


def rate(work: Callable[[int], None], samples: int) -> float:
    """Samples a second of processor time."""
    begun = time.process_time()
    work(samples)
    return samples / (time.process_time() - begun)


def spread(values: list[float]) -> str:
    """`median (lowest–highest)`."""
    return f"{statistics.median(values):,.0f} ({min(values):,.0f}–{max(values):,.0f})"


def native_batches(source: Source, settings: BatchSettings, batch_size: int) -> Callable[[int], None]:
    """Batches in the order of a run, permutation and all."""
    batches = MaskedBatches([source], MaskingVocabulary.of(VOCABULARY), settings, batch_size=batch_size)

    def work(samples: int) -> None:
        for position in range(0, samples, batch_size):
            batches.at(position)

    return work


def plain_batches(source: Source, settings: BatchSettings) -> Callable[[int], None]:
    """The oracle on the same samples."""
    vocabulary = MaskingVocabulary.of(VOCABULARY)
    same = oracle.Settings(
        vocabulary.size,
        vocabulary.cls,
        vocabulary.sep,
        vocabulary.mask,
        vocabulary.pad,
        vocabulary.continuation.tolist(),
        vocabulary.ordinary.tolist(),
        **vars(settings),
    )
    corpus = source.corpus

    def work(samples: int) -> None:
        epochs, indices = source.at(np.arange(samples, dtype=np.int64))
        for epoch, index in zip(epochs.tolist(), indices.tolist(), strict=True):
            begin, length, target, pair = source.rows[index].tolist()
            here = slice(begin, begin + length)
            first, last = np.searchsorted(corpus.offsets, [begin, begin + length])
            near = oracle.Corpus(
                corpus.tokens[here].tolist(),
                None if corpus.boundaries is None else corpus.boundaries[here].tolist(),
                (corpus.offsets[first : last + 1] - begin).tolist(),
                source.seed,
            )
            oracle.make_batch([near], [(0, (0, length, target, pair), epoch, index)], same)

    return work


def paddlenlp_batches(source: Source, settings: BatchSettings, batch_size: int) -> Callable[[int], None]:
    """PaddleNLP's whole-word collator on rows that are cut to length already."""
    from paddlenlp.data.data_collator import DataCollatorForWholeWordMask
    from paddlenlp.transformers import BertTokenizer

    with tempfile.TemporaryDirectory() as folder:
        vocab = Path(folder) / "vocab.txt"
        vocab.write_text("".join(f"{token}\n" for token in VOCABULARY), encoding="utf-8")
        tokenizer = BertTokenizer(str(vocab))
    collator = DataCollatorForWholeWordMask(tokenizer, return_tensors="np")
    corpus, rows = source.corpus, source.rows
    random.seed(1)

    def example(number: int) -> dict[str, object]:
        begin, length, target, _ = rows[number % len(rows)].tolist()
        here = slice(begin, begin + min(length, target))
        ids = [VOCABULARY.index("[CLS]"), *corpus.tokens[here].tolist(), VOCABULARY.index("[SEP]")]
        assert corpus.boundaries is not None
        inside = np.flatnonzero(corpus.boundaries[here] == 0) + 1
        return {"input_ids": ids, "chinese_ref": inside.tolist()}

    def work(samples: int) -> None:
        for first in range(0, samples, batch_size):
            collator.numpy_call([example(number) for number in range(first, first + batch_size)])

    return work


def main() -> None:
    """Runs the rounds and prints one table a length."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batches", description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=20_000, help="of the synthetic corpus (default: 20000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each (default: 5)")
    parser.add_argument("--batch-size", type=int, default=64, help="samples a batch (default: 64)")
    parser.add_argument("--samples", type=int, default=64_000, help="samples a round (default: 64000)")
    arguments = parser.parse_args()
    corpus = synthetic_corpus(arguments.documents, most_sentences=81)
    levels = ((0.1, 0.6, 0.1, 0.2),)
    for length in (512, 128):
        source = open_source(corpus, range(arguments.documents), MapSettings(length), None)
        settings = BatchSettings(length, levels=levels)
        packed = BatchSettings(length, levels=levels, pack=True)
        runs = {
            "native, padded": (native_batches(source, settings, arguments.batch_size), arguments.samples),
            "native, packed": (native_batches(source, packed, arguments.batch_size), arguments.samples),
            "oracle of the tests (Python)": (plain_batches(source, settings), 64),
            "PaddleNLP's whole-word collator": (paddlenlp_batches(source, settings, 64), 256),
        }
        rates: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(arguments.rounds):
            for name, (work, samples) in runs.items():
                rates[name].append(rate(work, samples))
        mean = np.minimum(source.rows["length"], source.rows["target"]).mean() + 3
        print(
            f"max_seq_length {length} (mean sample {mean:.0f} tokens), one thread, {arguments.rounds} rounds: "
            "samples/s, median (lowest–highest)"
        )
        for name, values in rates.items():
            ratios = [mine / each for mine, each in zip(rates["native, padded"], values, strict=True)]
            compared = "" if name.startswith("native") else f"the native one is {spread(ratios)} times as fast"
            print(f"  {name:<32} {spread(values):<32} {compared}".rstrip())
        print(f"  ERNIE 1.0 scripts, published     {PUBLISHED[length]}")


if __name__ == "__main__":
    main()
