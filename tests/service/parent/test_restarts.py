"""Back-off and hopelessness of processes that keep ending."""

from service.parent.restarts import LONGEST_DELAY_SECONDS, STABLE_SECONDS, Restarts


def test_the_wait_doubles_up_to_a_limit() -> None:
    restarts = Restarts(0)
    assert [restarts.delay(0.0) for _ in range(8)] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, LONGEST_DELAY_SECONDS, 10.0]


def test_too_many_failures_in_a_row_leave_no_hope() -> None:
    restarts = Restarts(2)
    assert [restarts.delay(STABLE_SECONDS) for _ in range(3)] == [0.2, 0.4, None]
    assert restarts.failures == 3


def test_long_service_makes_up_for_the_failures_before() -> None:
    restarts = Restarts(2)
    assert [restarts.delay(0.0), restarts.delay(0.0), restarts.delay(STABLE_SECONDS + 1)] == [0.2, 0.4, 0.2]
    assert restarts.failures == 1
