"""What is let in, what is refused, and how long the refused are told to wait; the clock is the test's."""

import asyncio
import contextlib

import pytest

from service.api.models.admission import Admission
from service.problem import Problem


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def admission(clock: Clock) -> Admission:
    return Admission(max_requests=2, max_tokens=100, clock=clock)


def test_requests_beyond_the_bound_are_refused_until_one_leaves(admission: Admission) -> None:
    with admission.admit(10):
        with admission.admit(10):
            with pytest.raises(Problem) as refused, admission.admit(10):
                pass
            assert refused.value.code == "overloaded"
            assert refused.value.retry_after == 1
        with admission.admit(10):
            pass
    assert (admission.requests, admission.tokens) == (0, 0)


def test_tokens_are_bounded_and_a_refused_request_takes_none(admission: Admission) -> None:
    with admission.admit(60):
        with pytest.raises(Problem, match="try again later"), admission.admit(41):
            pass
        assert (admission.requests, admission.tokens) == (1, 60)
        with admission.admit(40):
            assert admission.tokens == 100


def test_what_can_never_fit_is_too_large_rather_than_overloaded(admission: Admission) -> None:
    with pytest.raises(Problem) as refused, admission.admit(101):
        pass
    assert refused.value.code == "too_large"


def test_a_request_that_fails_gives_its_place_back(admission: Admission) -> None:
    with pytest.raises(KeyError), admission.admit(50):
        raise KeyError
    assert (admission.requests, admission.tokens) == (0, 0)


def test_the_wait_follows_the_measured_rate(admission: Admission, clock: Clock) -> None:
    with admission.admit(100):
        clock.now += 20  # 5 tokens a second
    with admission.admit(60):
        assert admission.retry_after() == 6
    with admission.admit(4):
        assert admission.retry_after() == 1


def test_the_wait_is_never_longer_than_a_minute(admission: Admission, clock: Clock) -> None:
    with admission.admit(1):
        clock.now += 3600
    with admission.admit(100):
        assert admission.retry_after() == 60


def test_idle_time_does_not_count_as_slowness(admission: Admission, clock: Clock) -> None:
    for _ in range(20):
        with admission.admit(100):
            clock.now += 1
        clock.now += 3600
    with admission.admit(100):
        assert admission.retry_after() == 1


def test_answers_that_leave_together_are_not_taken_for_speed(clock: Clock) -> None:
    admission = Admission(max_requests=512, max_tokens=200_000, clock=clock)
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(contextlib.ExitStack()) for _ in range(512)]
        for each in held:
            each.enter_context(admission.admit(20))
        for _ in range(8):  # batches of 64 in ten seconds each: 128 tokens a second
            clock.now += 10
            for each in held[:64]:
                each.close()
                clock.now += 50e-6
            for each in held[:64]:
                each.enter_context(admission.admit(20))
            held = held[64:] + held[:64]
        assert (admission.requests, admission.tokens) == (512, 10_240)
        assert 36 <= admission.retry_after() <= 48


def test_work_that_was_given_up_tells_nothing_of_the_rate(admission: Admission, clock: Clock) -> None:
    with admission.admit(10):
        clock.now += 10  # one token a second
    for _ in range(5):
        with pytest.raises(asyncio.CancelledError), admission.admit(90):
            raise asyncio.CancelledError
    with admission.admit(40):
        assert admission.retry_after() == 20


def test_a_rate_of_long_ago_is_forgotten(admission: Admission, clock: Clock) -> None:
    for seconds in (0.1, *[20] * 3):
        with admission.admit(100):
            clock.now += seconds
    with admission.admit(100):
        assert admission.retry_after() >= 8


def test_each_of_several_processes_lets_in_its_share(clock: Clock) -> None:
    admission = Admission(max_requests=4, max_tokens=100, clock=clock, share=2)
    with admission.admit(25), admission.admit(25):
        assert admission.full
        with pytest.raises(Problem, match="try again later"), admission.admit(1):
            pass


def test_a_request_beyond_the_share_is_let_in_by_itself_but_not_one_beyond_the_whole(clock: Clock) -> None:
    admission = Admission(max_requests=4, max_tokens=100, clock=clock, share=4)
    with admission.admit() as place, place.holding(100):
        assert admission.full
    with admission.admit() as place, pytest.raises(Problem) as never, place.holding(101):
        pass
    assert never.value.code == "too_large"
    assert "at most 100" in never.value.detail
    admission = Admission(max_requests=8, max_tokens=100, clock=clock, share=4)
    with admission.admit(10), admission.admit() as place:
        with pytest.raises(Problem) as later, place.holding(26):
            pass
        assert later.value.code == "overloaded"
