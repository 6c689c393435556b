"""Weighted mixing of several corpora into one endless run of samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from native import MAX_BLENDING_PERIOD, Blending


def parse_blend(blend: str | Sequence[str]) -> list[tuple[Fraction, str]]:
    """Weights and prefixes of corpora: `"0.7 a 0.3 b"`, one prefix, or prefixes of equal weight.

    A sequence is taken entry by entry, so that a prefix may hold spaces: `["a", "b"]`, `["0.7", "a", "0.3", "b"]`.
    The weights need not add up to 1. Raises ValueError for a missing, repeated or unusable entry.
    """
    entries = blend.split() if isinstance(blend, str) else [str(entry) for entry in blend]
    if not entries:
        raise ValueError('no corpus is given; name a prefix, or weights and prefixes such as "0.7 a 0.3 b".')
    if len(entries) > 1 and any(_weight(entry) is not None for entry in entries):
        pairs = _weighted(entries)
    else:
        pairs = [(Fraction(1), prefix) for prefix in entries]
    prefixes = [prefix for _, prefix in pairs]
    for prefix in prefixes:
        if prefixes.count(prefix) > 1:
            raise ValueError(f"corpus {prefix} stands in the blend twice; add its weights up instead.")
    return pairs


def _weighted(entries: Sequence[str]) -> list[tuple[Fraction, str]]:
    if len(entries) % 2:
        raise ValueError(f"the blend {' '.join(entries)!r} ends with {entries[-1]!r}, a weight without a corpus.")
    pairs = []
    for text, prefix in zip(entries[::2], entries[1::2], strict=True):
        weight = _weight(text)
        if weight is None:
            raise ValueError(f"{text!r} stands in the blend where the weight of corpus {prefix} should be.")
        if weight <= 0:
            raise ValueError(f"the weight of corpus {prefix} is {text}; leave the corpus out, or make it positive.")
        pairs.append((weight, prefix))
    return pairs


def _weight(text: str) -> Fraction | None:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        return None


def whole_weights(weights: Sequence[Fraction | float]) -> list[int]:
    """The weights as whole numbers in the same proportions: the period of the blend and each corpus's turns in it.

    Exact while they add up to at most 2^20; beyond that rounded (largest remainder) to that sum, an error below 2^-20
    of each share. Raises ValueError for a weight that is not positive or would round to nothing.
    """
    exact = [Fraction(weight) for weight in weights]
    if not exact or min(exact) <= 0:
        raise ValueError("a blend needs weights, all of them positive.")
    scale = math.lcm(*(weight.denominator for weight in exact))
    whole = [int(weight * scale) for weight in exact]
    divisor = math.gcd(*whole)
    whole = [weight // divisor for weight in whole]
    if sum(whole) <= MAX_BLENDING_PERIOD:
        return whole
    due = [weight * MAX_BLENDING_PERIOD / sum(exact) for weight in exact]
    rounded = [math.floor(share) for share in due]
    by_remainder = sorted(range(len(due)), key=lambda i: rounded[i] - due[i])
    for i in by_remainder[: MAX_BLENDING_PERIOD - sum(rounded)]:
        rounded[i] += 1
    if min(rounded) == 0:
        raise ValueError(f"weight {float(min(exact))} is less than a millionth of the blend; leave that corpus out.")
    return rounded


class Blend:
    """Which corpus stands at a position of the run, in closed form.

    After n positions, for every n, a corpus of share s was taken n·s times to within 1 - 1/(2k - 2) < 1 (k corpora).
    The order depends on the weights only, so a longer run begins like a shorter one.
    Source: R. Tijdeman, "The chairman assignment problem", Discrete Mathematics 32 (1980).
    """

    def __init__(self, weights: Sequence[Fraction | float]) -> None:
        self.weights = whole_weights(weights)
        self._blending = Blending(self.weights)

    def at(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """positions int64 [n] -> the corpus int32 [n], and how many of its samples stand before each, int64 [n]."""
        return self._blending.at(positions)
