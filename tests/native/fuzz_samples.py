"""Fuzz targets for arrays: each calls the native module with arbitrary arrays and accepts a result or a clear error.

`tests/native/fuzz.py` runs them; `make fuzz-native` runs them with sanitizers.
"""

from __future__ import annotations

import contextlib
import random
from typing import Any

import numpy as np

import native

DTYPES = (np.int8, np.uint8, np.uint16, np.int32, np.int64, np.float32, np.float64, np.bool_)
EDGES = (0, 1, -1, 2, 5, 127, 255, 2**15, 2**16 - 1, 2**31 - 1, -(2**31), 2**32, 2**62, -(2**63), 2**63 - 1)
REFUSALS = (ValueError, TypeError)


def whole(rng: random.Random, high: int, low: int = 0) -> int:
    """Mostly a number from low to high, sometimes an edge case of an integer type."""
    return rng.choice(EDGES) if rng.random() < 0.01 else rng.randint(low, high)


def share(rng: random.Random, *valid: float) -> float:
    """Mostly one of the valid values, sometimes an invalid one."""
    return rng.choice([-1.0, 2.0, float("nan"), float("inf")]) if rng.random() < 0.01 else rng.choice(valid)


def numbers(rng: random.Random, size: int, high: int, dtype: type, *, ascending: bool = False) -> Any:
    """An array; sometimes with edge cases, of another dtype, shape, stride or alignment, or not an array."""
    values = [rng.randint(0, high) for _ in range(size)]
    if ascending and rng.random() < 0.95:
        values.sort()
    if values and rng.random() < 0.03:
        values[rng.randrange(size)] = rng.choice(EDGES)
    array = np.array(values, dtype=np.int64).astype(dtype)
    twist = rng.randrange(400)
    if twist == 0:
        return array.astype(rng.choice(DTYPES))
    if twist == 1:
        return np.repeat(array, 2)[::2]
    if twist == 2:
        return array.reshape(1, -1)
    if twist == 3:
        return array[: rng.randint(0, size)]
    if twist == 4:
        return np.frombuffer(b"\0" + array.tobytes(), dtype=np.uint8)[1:].view(array.dtype)
    if twist == 5:
        return array.byteswap().view(array.dtype.newbyteorder())
    return rng.choice([None, values, "x"]) if twist == 6 else array


def fuzz_sample_map(rng: random.Random) -> None:
    """`build_sample_map` on an arbitrary index."""
    sentences, tokens = rng.randint(0, 30), rng.randint(0, 400)
    with contextlib.suppress(*REFUSALS):
        rows, _ = native.build_sample_map(
            numbers(rng, sentences + 1, tokens, np.int64, ascending=True),
            numbers(rng, rng.randint(3, 8), sentences, np.int64, ascending=True),
            tokens=whole(rng, tokens + 5),
            first=whole(rng, 1),
            last=whole(rng, 3, 1),
            window=whole(rng, 80, 2),
            short_seq_prob=share(rng, 0.0, 0.1, 1.0),
            pairs=rng.random() < 0.5,
            seed=rng.getrandbits(64),
        )
        assert (rows[:, 0] >= 0).all()


def fuzz_permute(rng: random.Random) -> None:
    """`permute` at arbitrary positions."""
    with contextlib.suppress(*REFUSALS):
        size = whole(rng, 100, 1)
        _, rows = native.permute(numbers(rng, rng.randint(0, 50), 300, np.int64), size=size, seed=rng.getrandbits(64))
        assert ((rows >= 0) & (rows < size)).all()


def fuzz_blending(rng: random.Random) -> None:
    """`Blending` with arbitrary weights and positions."""
    with contextlib.suppress(*REFUSALS):
        blending = native.Blending([whole(rng, 50, 1) for _ in range(rng.randint(0, 6))])
        corpora, _ = blending.at(numbers(rng, rng.randint(0, 50), 10**6, np.int64))
        assert (corpora >= 0).all()


def fuzz_batch_maker(rng: random.Random) -> None:
    """`BatchMaker` on arbitrary corpora, settings and rows."""
    vocab_size, tokens, sentences = rng.randint(6, 40), rng.randint(1, 300), rng.randint(0, 20)
    with contextlib.suppress(*REFUSALS):
        level = rng.choice([(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (0.1, 0.2, 0.3, 0.4)])
        maker = native.BatchMaker(
            [
                (
                    numbers(rng, tokens, vocab_size - 1, rng.choice([np.uint16, np.int32])),
                    None if rng.random() < 0.3 else numbers(rng, tokens, 4, np.uint8),
                    numbers(rng, sentences + 1, tokens, np.int64, ascending=True),
                    rng.getrandbits(64),
                )
                for _ in range(rng.randint(1, 3))
            ],
            vocab_size=vocab_size,
            cls_id=whole(rng, 2),
            sep_id=whole(rng, 2),
            mask_id=whole(rng, 3),
            pad_id=0,
            continuation=np.array([rng.random() < 0.2 for _ in range(vocab_size)]),
            ordinary_ids=np.arange(4, vocab_size, dtype=np.int32),
            levels=np.array([level] * rng.randint(1, 3), dtype=np.float64),
            max_seq_length=whole(rng, 100, 5),
            masked_lm_prob=share(rng, 0.0, 0.15, 0.5, 1.0),
            max_ngrams=whole(rng, 6, 1),
            sentence_order=rng.random() < 0.7,
            mask_share=share(rng, 0.0, 0.5, 0.8),
            random_share=share(rng, 0.0, 0.1),
            replace_whole_units=rng.random() < 0.3,
            pad_multiple=whole(rng, 20, 1),
            pack=rng.random() < 0.3,
        )
        fuzz_make(rng, maker, tokens)


def fuzz_make(rng: random.Random, maker: native.BatchMaker, tokens: int) -> None:
    """`make` of one batch maker with arbitrary rows and keys."""
    for _ in range(4):
        n = rng.randint(0, 6)
        rows = np.zeros((n, 2), np.int64)
        for row in rows:
            row[0] = whole(rng, tokens // 2)
            row[1] = whole(rng, 60, 1) % 2**32 | rng.randint(2, 30) << 32 | rng.randint(0, 1) << 48
        out = numbers(rng, rng.randint(0, 3000), 5, np.int64) if rng.random() < 0.1 else None
        with contextlib.suppress(*REFUSALS):
            batch = maker.make(
                numbers(rng, n, 0 if rng.random() < 0.9 else 3, np.int32),
                rows if rng.random() < 0.99 else numbers(rng, n, 5, np.int64),
                numbers(rng, n, 3, np.int64),
                numbers(rng, n, 10**6, np.int64),
                out,
            )
            assert (batch["mask_positions"] < batch["input_ids"].size).all()


TARGETS = (fuzz_sample_map, fuzz_permute, fuzz_blending, fuzz_batch_maker)
