"""What is let in, what is refused, and how long the refused are told to wait; the clock is the test's."""

import pytest

from service.admission import Admission
from service.problems import Problem


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
