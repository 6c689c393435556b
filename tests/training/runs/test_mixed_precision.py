"""The loss scale, and that a CPU is not asked for what it cannot do."""

import pytest

from training.runs import mixed_precision
from training.runs.mixed_precision import DivergedError, LossScale


def test_fp16_halves_its_scale_with_a_bad_step_and_doubles_it_after_many_good_ones() -> None:
    scale = LossScale.of("fp16")
    scale.growth_interval = 3
    for finite in (True, True, False, True, True, True):
        scale.update(finite=finite, max_bad_steps=5, remedy="with a lower --learning-rate")
    assert (scale.value, scale.skipped, scale.bad_steps) == (2.0**15, 1, 0)
    scale.update(finite=False, max_bad_steps=5, remedy="with a lower --learning-rate")
    assert scale.value == 2.0**14


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_without_fp16_the_scale_stays_at_one(name: str) -> None:
    scale = LossScale.of(name)
    for finite in (False, True, False):
        scale.update(finite=finite, max_bad_steps=5, remedy="with a lower --learning-rate")
    assert (scale.value, scale.skipped) == (1.0, 2)


def test_bad_steps_in_a_row_end_the_run_with_a_sentence_that_says_what_to_do() -> None:
    scale = LossScale.of("fp16")
    for finite in (False, False, True, False, False):
        scale.update(finite=finite, max_bad_steps=3, remedy="with a lower --learning-rate")
    with pytest.raises(DivergedError, match=r"3 steps in a row were infinite or not a number .* lower --learning-rate"):
        scale.update(finite=False, max_bad_steps=3, remedy="with a lower --learning-rate")


def test_a_scale_goes_on_from_its_state() -> None:
    scale = LossScale.of("fp16")
    scale.update(finite=False, max_bad_steps=9, remedy="with a lower --learning-rate")
    other = LossScale.of("fp16")
    other.restore(scale.state())
    assert other == scale


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_mixed_precision_on_a_cpu_is_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(ValueError, match=f"--precision {name} needs a GPU"):
        mixed_precision.check(name)
    mixed_precision.check("fp32")
