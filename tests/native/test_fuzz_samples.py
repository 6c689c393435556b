"""The fuzz targets run, a little, in every test run; the long run under the sanitizers is a command of its own."""

import random
from collections.abc import Callable

import pytest

from tests.native.fuzz_samples import TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_arbitrary_arrays_are_answered_or_refused(target: Callable[[random.Random], None]) -> None:
    rng = random.Random(5)
    for _ in range(300):
        target(rng)
