"""The random number generator is Philox4x32-10."""

import random

import pytest

import native
from tests.native import oracle

# Known-answer vectors of Random123 (D. E. Shaw Research), philox 4x32, 10 rounds: counter, key, result.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_the_published_vectors_are_reproduced(counter: str, key: str, result: str) -> None:
    assert list(native.philox4x32(words(counter), words(key))) == words(result)
    assert oracle.philox4x32(words(counter), words(key)) == words(result)


def test_any_block_equals_that_of_the_oracle() -> None:
    rng = random.Random(1)
    for _ in range(200):
        counter, key = ([rng.getrandbits(32) for _ in range(n)] for n in (4, 2))
        assert list(native.philox4x32(counter, key)) == oracle.philox4x32(counter, key)
