"""The oracle for the native module: sample map, order of samples, blending and batch maker in slow, plain Python.

It follows the specification in training/README.md; the tests compare every number with that of the C++ code.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import accumulate

SAMPLE_MAP, SAMPLE, PERMUTATION = 1, 2, 3
CHARACTER, WORD, PHRASE, ENTITY = range(4)
WORDS = 2**32


def philox4x32(counter: Sequence[int], key: Sequence[int]) -> list[int]:
    c, k = list(counter), list(key)
    for _ in range(10):
        first, second = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [second // WORDS ^ c[1] ^ k[0], second % WORDS, first // WORDS ^ c[3] ^ k[1], first % WORDS]
        k = [(k[0] + 0x9E3779B9) % WORDS, (k[1] + 0xBB67AE85) % WORDS]
    return c


class Draws:
    """The random 32-bit words of one (seed, stream, epoch, sample)."""

    def __init__(self, seed: int, stream: int, epoch: int, sample: int) -> None:
        self.words = self._generate(seed, stream, epoch, sample)

    @staticmethod
    def _generate(seed: int, stream: int, epoch: int, sample: int) -> Iterator[int]:
        block = 0
        while True:
            counter = [stream * 2**24 + block, epoch, sample % WORDS, sample // WORDS]
            yield from philox4x32(counter, [seed % WORDS, seed // WORDS])
            block += 1

    def word(self) -> int:
        return next(self.words)

    def below(self, bound: int) -> int:
        return self.word() * bound // WORDS

    def chance(self, probability: float) -> bool:
        return self.word() < int(probability * WORDS)


# --- order -----------------------------------------------------------------------------------------------------------


def sample_map(
    offsets: Sequence[int],
    documents: Sequence[int],
    first: int,
    last: int,
    window: int,
    short_seq_prob: float,
    pairs: bool,
    seed: int,
) -> list[tuple[int, int, int, int]]:
    """(begin, length, target, pair) of every sample."""
    rows = []
    for document in range(first, last):
        draws = Draws(seed, SAMPLE_MAP, 0, document)

        def draw_target(draws: Draws = draws) -> int:
            short = int(short_seq_prob * WORDS) > 0 and draws.chance(short_seq_prob)
            return 2 + draws.below(window - 1) if short else window

        numbers = range(documents[document], documents[document + 1])
        run: list[tuple[int, int]] = []  # (begin, end) of the sentences of the open sample
        target = draw_target()

        def emit(target: int, run: list[tuple[int, int]]) -> None:
            rows.append((run[0][0], run[-1][1] - run[0][0], target, int(len(run) > 1)))

        for number in numbers:
            begin, end = offsets[number], offsets[number + 1]
            if begin == end:
                continue
            if end - begin > window:
                if run:
                    emit(target, run)
                    target = draw_target()
                while end - begin > window:
                    rows.append((begin, window, window, 0))
                    begin += window
                run = []
            run.append((begin, end))
            leaves_last_alone = number == numbers[-1] - 1
            if run[-1][1] - run[0][0] >= target and not (pairs and (len(run) < 2 or leaves_last_alone)):
                emit(target, run)
                run = []
                target = draw_target()
        if run:
            emit(target, run)
    return rows


def permutation(size: int, seed: int, epoch: int) -> list[int]:
    """The row at each position of one epoch."""
    bits = (size - 1).bit_length()
    right_bits = (bits + 1) // 2
    left_bits = bits - right_bits
    draws = Draws(seed, PERMUTATION, epoch, 0)
    keys = [draws.word() * WORDS + draws.word() for _ in range(8)]

    def mix(value: int) -> int:
        value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
        return value ^ value >> 31

    def encrypt(value: int) -> int:
        left, right = divmod(value, 2**right_bits)
        for i, key in enumerate(keys):
            if i % 2 == 0:
                left ^= mix(right ^ key) % 2**left_bits
            else:
                right ^= mix(left ^ key) % 2**right_bits
        return left * 2**right_bits + right

    rows = []
    for position in range(size):
        value = encrypt(position)
        while value >= size:
            value = encrypt(value)
        rows.append(value)
    return rows


def blend(weights: Sequence[int], count: int) -> list[tuple[int, int]]:
    """(corpus, number of its earlier samples) at the first `count` positions: Tijdeman's rule, in fractions."""
    shares = [Fraction(weight, sum(weights)) for weight in weights]
    taken = [0] * len(weights)
    positions = []
    for n in range(1, count + 1):
        corpus = 0
        if len(weights) > 1:
            slack = Fraction(1, 2 * len(weights) - 2)
            lag = [share * n - got for share, got in zip(shares, taken, strict=True)]
            ready = [i for i in range(len(weights)) if lag[i] >= slack]
            corpus = min(ready, key=lambda i: (1 - slack - lag[i]) / shares[i])
        positions.append((corpus, taken[corpus]))
        taken[corpus] += 1
    return positions


# --- batches ---------------------------------------------------------------------------------------------------------


@dataclass
class Settings:
    vocab_size: int
    cls_id: int
    sep_id: int
    mask_id: int
    pad_id: int
    continuation: Sequence[bool]
    ordinary_ids: Sequence[int]
    levels: Sequence[Sequence[float]] = ((0.0, 1.0, 0.0, 0.0),)
    max_seq_length: int = 512
    masked_lm_prob: float = 0.15
    max_ngrams: int = 3
    sentence_order: bool = True
    mask_share: float = 0.8
    random_share: float = 0.1
    replace_whole_units: bool = False
    pad_multiple: int = 8
    pack: bool = False


@dataclass
class Corpus:
    tokens: Sequence[int]
    boundaries: Sequence[int] | None
    offsets: Sequence[int]
    seed: int


@dataclass
class Unit:
    columns: list[int]
    text: int
    boundary: int
    masked: bool = False


@dataclass
class Sample:
    ids: list[int] = field(default_factory=list)
    types: list[int] = field(default_factory=list)
    units: list[Unit] = field(default_factory=list)
    sentence_order_label: int = -100
    columns: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)


def shorten(text: list[int], kept: int, draws: Draws) -> list[int]:
    excess = len(text) - kept
    if excess == 0:
        return text
    front = draws.below(excess + 1)
    return text[front : front + kept]


def draw_level(shares: Sequence[float], draws: Draws) -> int:
    word, below = draws.word(), 0.0
    for level in range(4):
        below += shares[level]
        if word < int(below * WORDS):
            return level
    return max(level for level in range(4) if shares[level] > 0)


def texts_of(corpus: Corpus, row: tuple[int, int, int, int], s: Settings, draws: Draws) -> tuple[list[list[int]], int]:
    """The corpus positions of the tokens of one or two texts, and the sentence-order label."""
    begin, length, target, pair = row
    if not (s.sentence_order and pair):
        return [shorten(list(range(begin, begin + length)), min(length, target), draws)], -100
    cuts = sorted({offset for offset in corpus.offsets if begin < offset < begin + length})
    cut = cuts[draws.below(len(cuts))]
    first, second = list(range(begin, cut)), list(range(cut, begin + length))
    swapped = draws.word() >= WORDS // 2
    if swapped:
        first, second = second, first
    kept = [len(first), len(second)]
    while sum(kept) > target:
        kept[0 if kept[0] > kept[1] else 1] -= 1
    return [shorten(text, n, draws) for text, n in zip((first, second), kept, strict=True)], int(swapped)


def add_text(sample: Sample, corpus: Corpus, numbers: list[int], text: int, level: int, s: Settings) -> None:
    for i, number in enumerate(numbers):
        token = corpus.tokens[number]
        boundary = corpus.boundaries[number] if corpus.boundaries is not None else 0
        begins = not s.continuation[token]
        if corpus.boundaries is not None and level != CHARACTER:
            begins = begins and boundary != 0
        if i == 0 or begins:
            sample.units.append(Unit([], text, boundary))
        sample.units[-1].columns.append(len(sample.ids))
        sample.ids.append(token)
        sample.types.append(text)


def choose(sample: Sample, level: int, s: Settings, draws: Draws) -> None:
    budget = max(1, round(s.masked_lm_prob * len(sample.ids)))
    units = sample.units
    first_drawn = None
    harmonic = list(accumulate(1.0 / n for n in range(1, s.max_ngrams + 1)))
    passes = [(list(range(len(units))), s.max_ngrams > 1)]
    if level in (PHRASE, ENTITY):
        of_level = [u for u in range(len(units)) if units[u].boundary == level + 1]
        passes = [(of_level, False), ([u for u in range(len(units)) if u not in of_level], s.max_ngrams > 1)]
    for candidates, ngrams in passes:
        for i in range(len(candidates)):
            if budget == 0:
                break
            j = i + draws.below(len(candidates) - i)
            candidates[i], candidates[j] = candidates[j], candidates[i]
            start = candidates[i]
            if first_drawn is None:
                first_drawn = start
            if units[start].masked:
                continue
            n = 1
            if ngrams:
                word = draws.word()
                while n < s.max_ngrams and word >= int(harmonic[n - 1] / harmonic[-1] * WORDS):
                    n += 1
            for unit in units[start : start + n]:
                if unit.text != units[start].text or unit.masked or len(unit.columns) > budget:
                    break
                unit.masked = True
                budget -= len(unit.columns)
    if not any(unit.masked for unit in units):
        units[first_drawn].masked = True


def mask(sample: Sample, s: Settings, draws: Draws) -> None:
    for unit in sample.units:
        word = 0
        for i, column in enumerate(unit.columns if unit.masked else []):
            sample.columns.append(column)
            sample.labels.append(sample.ids[column])
            if i == 0 or not s.replace_whole_units:
                word = draws.word()
            if word < int(s.mask_share * WORDS):
                sample.ids[column] = s.mask_id
            elif word < int((s.mask_share + s.random_share) * WORDS):
                sample.ids[column] = s.ordinary_ids[draws.below(len(s.ordinary_ids))]


def make_sample(corpus: Corpus, row: tuple[int, int, int, int], epoch: int, number: int, s: Settings) -> Sample:
    draws = Draws(corpus.seed, SAMPLE, epoch, number)
    level = draw_level(s.levels[min(epoch, len(s.levels) - 1)], draws)
    texts, label = texts_of(corpus, row, s, draws)
    sample = Sample(ids=[s.cls_id], types=[0], sentence_order_label=label)
    for text, numbers in enumerate(texts):
        add_text(sample, corpus, numbers, text, level, s)
        sample.ids.append(s.sep_id)
        sample.types.append(text)
    choose(sample, level, s, draws)
    mask(sample, s, draws)
    return sample


def make_batch(
    corpora: Sequence[Corpus], requests: Sequence[tuple[int, tuple[int, int, int, int], int, int]], s: Settings
) -> dict[str, list]:
    """The arrays of a batch as nested lists; each request is (corpus, row, epoch, sample)."""
    samples = [make_sample(corpora[corpus], row, epoch, number, s) for corpus, row, epoch, number in requests]
    rows: list[list[Sample]] = []
    origins = []
    for sample in samples:
        fits = [r for r, row in enumerate(rows) if sum(len(x.ids) for x in row) + len(sample.ids) <= s.max_seq_length]
        if not (s.pack and fits):
            rows.append([])
            fits = [len(rows) - 1]
        origins.append((fits[0], sum(len(x.ids) for x in rows[fits[0]])))
        rows[fits[0]].append(sample)
    lengths = [sum(len(sample.ids) for sample in row) for row in rows]
    longest = max(lengths, default=1)
    width = min(s.max_seq_length, math.ceil(longest / s.pad_multiple) * s.pad_multiple)

    def table(values_of, fill: int) -> list[list[int]]:
        filled = [[value for number, x in enumerate(row, 1) for value in values_of(x, number)] for row in rows]
        return [row + [fill] * (width - len(row)) for row in filled]

    batch: dict[str, list] = {
        "input_ids": table(lambda x, _: x.ids, s.pad_id),
        "token_type_ids": table(lambda x, _: x.types, 0),
        "lengths": lengths,
        "cls_positions": [row * width + column for row, column in origins],
        "sentence_order_labels": [sample.sentence_order_label for sample in samples],
        "mask_positions": [r * width + c + x for (r, c), y in zip(origins, samples, strict=True) for x in y.columns],
        "labels": [label for sample in samples for label in sample.labels],
    }
    if s.pack:
        batch["position_ids"] = table(lambda x, _: range(len(x.ids)), 0)
        batch["segment_ids"] = table(lambda x, number: [number] * len(x.ids), 0)
    return batch
