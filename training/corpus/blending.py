"""Weighted blending of several corpora into one endless sequence of samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from native import MAX_BLENDING_PERIOD, Blending


def parse_blend(blend: str | Sequence[str]) -> list[tuple[Fraction, str]]:
    """Weights and prefixes of corpora: `"0.7 a 0.3 b"`, one prefix, or prefixes of equal weight.

    Entries may also be given as a sequence, so that a prefix may contain spaces: `["a", "b"]`,
    `["0.7", "a", "0.3", "b"]`. The weights do not have to add up to 1. Raises ValueError for a missing, repeated or
    invalid entry.
    """
    entries = blend.split() if isinstance(blend, str) else [str(entry) for entry in blend]
    if not entries:
        raise ValueError('no corpus is given; give a prefix, or weights and prefixes such as "0.7 a 0.3 b".')
    if len(entries) > 1 and any(_weight(entry) is not None for entry in entries):
        pairs = _weighted(entries)
    else:
        pairs = [(Fraction(1), prefix) for prefix in entries]
    prefixes = [prefix for _, prefix in pairs]
    for prefix in prefixes:
        if prefixes.count(prefix) > 1:
            raise ValueError(f"corpus {prefix} occurs twice in the blend; give it once, with the sum of its weights.")
    return pairs


def _weighted(entries: Sequence[str]) -> list[tuple[Fraction, str]]:
    if len(entries) % 2:
        raise ValueError(f"the blend {' '.join(entries)!r} ends with {entries[-1]!r}, a weight without a corpus.")
    pairs = []
    for text, prefix in zip(entries[::2], entries[1::2], strict=True):
        weight = _weight(text)
        if weight is None:
            raise ValueError(f"{text!r} in the blend is not a number; give the weight of corpus {prefix} there.")
        if weight <= 0:
            raise ValueError(
                f"the weight of corpus {prefix} is {text}; give a positive weight, or leave the corpus out."
            )
        pairs.append((weight, prefix))
    return pairs


def _weight(text: str) -> Fraction | None:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        return None


def whole_weights(weights: Sequence[Fraction | float]) -> list[int]:
    """The weights as integers in the same proportions; their sum is the period of the blend.

    Exact if the integers add up to at most 2^20; otherwise rounded (largest remainder) to that sum, with an error below
    2^-20 per share. Raises ValueError for a weight that is not positive or would be rounded to 0.
    """
    exact = [Fraction(weight) for weight in weights]
    if not exact or min(exact) <= 0:
        raise ValueError("a blend needs at least one weight, and all weights must be positive.")
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
    """The corpus at each position of a run, in closed form.

    Among the first n positions, for every n, a corpus of share s occurs n·s times, with an error of at most
    1 - 1/(2k - 2) < 1 for k corpora. The order depends only on the weights, so a longer run begins like a shorter one.
    Source: R. Tijdeman, "The chairman assignment problem", Discrete Mathematics 32 (1980).
    """

    def __init__(self, weights: Sequence[Fraction | float]) -> None:
        self.weights = whole_weights(weights)
        self._blending = Blending(self.weights)

    def at(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """positions int64 [n] -> corpus index int32 [n], and number of samples of that corpus before each position
        int64 [n]."""
        return self._blending.at(positions)
