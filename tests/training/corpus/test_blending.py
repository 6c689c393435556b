"""Blends: their syntax, their shares, and that a longer run begins like a shorter one."""

from fractions import Fraction

import numpy as np
import pytest

from native import MAX_BLENDING_PERIOD
from training.corpus.blending import Blend, parse_blend, whole_weights


@pytest.mark.parametrize(
    ("blend", "parsed"),
    [
        ("a", [(1, "a")]),
        ("0.7 a 0.3 b", [(Fraction(7, 10), "a"), (Fraction(3, 10), "b")]),
        ("5 a 7 b 12 c", [(5, "a"), (7, "b"), (12, "c")]),
        (["a", "b"], [(1, "a"), (1, "b")]),
        (["a folder/with spaces"], [(1, "a folder/with spaces")]),
        (["0.5", "a b", "1/3", "c"], [(Fraction(1, 2), "a b"), (Fraction(1, 3), "c")]),
        ("2020", [(1, "2020")]),
    ],
)
def test_blends_are_read(blend: str | list[str], parsed: list[tuple[Fraction, str]]) -> None:
    assert parse_blend(blend) == parsed


@pytest.mark.parametrize(
    ("blend", "message"),
    [
        ("", "no corpus is given"),
        ([], "no corpus is given"),
        ("0.7 a 0.3", "ends with '0.3', a weight without a corpus"),
        ("0.7 a x b", "'x' in the blend is not a number; give the weight of corpus b there"),
        ("a 0.3 b 0.7", "'a' in the blend is not a number; give the weight of corpus 0.3"),
        ("0 a 1 b", "the weight of corpus a is 0"),
        ("-1 a 1 b", "the weight of corpus a is -1"),
        ("1 a 2 a", "corpus a occurs twice in the blend"),
    ],
)
def test_a_blend_that_is_none_is_refused(blend: str | list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_blend(blend)


def test_decimal_weights_are_exact() -> None:
    assert whole_weights([Fraction("0.7"), Fraction("0.3")]) == [7, 3]
    assert whole_weights([5, 7, 12]) == [5, 7, 12]
    assert whole_weights([Fraction("0.25"), 3]) == [1, 12]


def test_weights_of_no_small_proportion_are_rounded_to_a_millionth() -> None:
    weights = [0.123456789, 0.3, 0.4111111]
    whole = whole_weights(weights)
    assert sum(whole) == MAX_BLENDING_PERIOD
    for weight, rounded in zip(weights, whole, strict=True):
        assert abs(rounded / MAX_BLENDING_PERIOD - weight / sum(weights)) < 2**-20


def test_a_weight_that_would_round_to_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="less than a millionth"):
        whole_weights([1.0, 1e-9])


def test_a_longer_run_begins_like_a_shorter_one() -> None:
    short = Blend([0.6, 0.25, 0.15]).at(np.arange(1000))
    long = Blend([0.6, 0.25, 0.15]).at(np.arange(100_000))
    assert all((a == b[:1000]).all() for a, b in zip(short, long, strict=True))


def test_shares_are_those_of_the_weights_to_one_sample_at_every_prefix() -> None:
    weights = [0.62, 0.3, 0.05, 0.03]
    corpora, _ = Blend([Fraction(str(weight)) for weight in weights]).at(np.arange(20_000))
    for corpus, weight in enumerate(weights):
        got = np.cumsum(corpora == corpus)
        assert np.abs(got - weight * np.arange(1, 20_001)).max() < 1


def test_far_positions_are_reached_at_once() -> None:
    blend = Blend([7, 3])
    corpora, indices = blend.at(np.arange(10**15, 10**15 + 10))
    assert (corpora == 0).sum() == 7
    assert indices[corpora == 1].tolist() == [3 * 10**14, 3 * 10**14 + 1, 3 * 10**14 + 2]
