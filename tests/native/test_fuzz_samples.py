"""A short run of the fuzz targets; `make fuzz-native` runs them longer and with sanitizers."""

import random
from collections.abc import Callable

import pytest

from tests.native.fuzz_samples import TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_arbitrary_arrays_give_a_result_or_a_clear_error(target: Callable[[random.Random], None]) -> None:
    rng = random.Random(5)
    for _ in range(300):
        target(rng)
