"""The rules of the batcher, each as a sentence, and as properties of any sequence of requests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.batching import Batcher, Ticket
from service.messages.launch import BatchingOptions


def lengths(batch: list[Ticket]) -> list[int]:
    return [ticket.length for ticket in batch]


def test_nothing_waits_while_the_device_is_idle() -> None:
    batcher = Batcher()
    batcher.add("a", [5], now=0.0)
    assert lengths(batcher.next_batch(now=0.0)) == [5]
    assert batcher.next_batch(now=0.0) == []
    assert (batcher.queue_items, batcher.queue_tokens, batcher.due()) == (0, 0, None)


def test_padded_tokens_and_rows_stay_within_the_budget() -> None:
    batcher = Batcher(BatchingOptions(max_batch_tokens=100, max_batch_items=64))
    batcher.add("a", [10] * 25, now=0.0)
    assert [len(batcher.next_batch(0.0)) for _ in range(4)] == [10, 10, 5, 0]
    batcher = Batcher(BatchingOptions(max_batch_tokens=100, max_batch_items=3))
    batcher.add("a", [1] * 7, now=0.0)
    assert [len(batcher.next_batch(0.0)) for _ in range(3)] == [3, 3, 1]


def test_an_item_longer_than_the_budget_runs_alone() -> None:
    batcher = Batcher(BatchingOptions(max_batch_tokens=100))
    batcher.add("a", [200, 200], now=0.0)
    assert [lengths(batcher.next_batch(0.0)) for _ in range(2)] == [[200], [200]]


def test_items_of_one_length_share_a_batch_and_of_others_do_not() -> None:
    batcher = Batcher(BatchingOptions(overhead_tokens=16))
    batcher.add("a", [500, 10, 495, 12, 11, 500], now=0.0)
    assert lengths(batcher.next_batch(0.0)) == [495, 500, 500]
    assert lengths(batcher.next_batch(0.0)) == [10, 11, 12]


def test_padding_is_accepted_up_to_the_cost_of_a_run_of_its_own() -> None:
    for overhead, together in ((20, True), (19, False)):
        batcher = Batcher(BatchingOptions(overhead_tokens=overhead))
        batcher.add("a", [30, 10], now=0.0)
        assert (len(batcher.next_batch(0.0)) == 2) is together


def test_the_oldest_item_is_always_in_the_next_batch() -> None:
    batcher = Batcher(BatchingOptions(max_batch_tokens=40, overhead_tokens=4))
    batcher.add("long", [40], now=0.0)
    for number in range(10):
        batcher.add(number, [4] * 10, now=float(number))
    assert lengths(batcher.next_batch(10.0)) == [40]


def test_neighbours_are_looked_for_within_the_window_only() -> None:
    batcher = Batcher(BatchingOptions(window=2))
    batcher.add("a", [10, 300, 10], now=0.0)
    assert lengths(batcher.next_batch(0.0)) == [10]


def test_cancelled_requests_cost_nothing_and_others_keep_their_place() -> None:
    batcher = Batcher()
    batcher.add("a", [10, 10], now=0.0)
    batcher.add("b", [10], now=0.0)
    batcher.cancel("a")
    batcher.cancel("unknown")
    assert batcher.queue_tokens == 10
    assert [ticket.request for ticket in batcher.next_batch(0.0)] == ["b"]


def test_expired_requests_are_named_once_and_cost_nothing() -> None:
    batcher = Batcher()
    batcher.add("a", [10], now=0.0, deadline=1.0)
    batcher.add("b", [10], now=0.0)
    assert batcher.expire(0.9) == []
    assert batcher.expire(1.0) == ["a"]
    assert batcher.expire(1.0) == []
    assert [ticket.request for ticket in batcher.next_batch(1.0)] == ["b"]


def test_max_wait_holds_a_small_batch_back_but_never_a_full_one() -> None:
    batcher = Batcher(BatchingOptions(max_wait=0.5, max_batch_items=3))
    batcher.add("a", [10], now=1.0)
    assert batcher.due() == 1.5
    assert batcher.next_batch(1.4) == []
    assert len(batcher.next_batch(1.5)) == 1
    batcher.add("b", [10] * 3, now=2.0)
    assert len(batcher.next_batch(2.0)) == 3


def test_a_request_twice_or_without_items_is_refused() -> None:
    batcher = Batcher()
    batcher.add("a", [1], now=0.0)
    with pytest.raises(ValueError, match="queued already"):
        batcher.add("a", [1], now=0.0)
    with pytest.raises(ValueError, match="no items"):
        batcher.add("b", [], now=0.0)


def test_batch_work_gives_way_to_interactive_work_until_it_has_aged() -> None:
    batcher = Batcher(BatchingOptions(ageing=2.0, max_batch_items=1))
    batcher.add("batch", [10], now=0.0, priority="batch")
    batcher.add("early", [10], now=1.0)
    assert [ticket.request for ticket in batcher.next_batch(1.0)] == ["early"]
    batcher.add("late", [10], now=2.5)
    assert [ticket.request for ticket in batcher.next_batch(2.5)] == ["batch"]
    assert [ticket.request for ticket in batcher.next_batch(2.5)] == ["late"]


def test_batch_work_does_not_ride_along_with_interactive_work_but_runs_when_the_device_is_idle() -> None:
    batcher = Batcher()
    batcher.add("batch", [10], now=0.0, priority="batch")
    batcher.add("interactive", [10], now=0.0)
    assert [ticket.request for ticket in batcher.next_batch(0.0)] == ["interactive"]
    assert [ticket.request for ticket in batcher.next_batch(0.0)] == ["batch"]


def test_a_batch_of_nothing_urgent_is_kept_short() -> None:
    batcher = Batcher(BatchingOptions(background_batch_tokens=50, ageing=1.0))
    batcher.add("batch", [10] * 12, now=0.0, priority="batch")
    assert len(batcher.next_batch(0.0)) == 5
    assert len(batcher.next_batch(1.0)) == 7  # aged: urgent now


actions = st.lists(
    st.one_of(
        st.tuples(
            st.just("add"),
            st.lists(st.integers(1, 300), min_size=1, max_size=12),
            st.none() | st.integers(0, 30),
            st.sampled_from(["interactive", "batch"]),
        ),
        st.tuples(st.just("batch")),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
    ),
    max_size=40,
)
limits = st.builds(
    BatchingOptions,
    max_batch_tokens=st.integers(1, 600),
    max_batch_items=st.integers(1, 10),
    window=st.integers(1, 20),
    overhead_tokens=st.integers(0, 100),
    ageing=st.integers(0, 20).map(float),
    background_batch_tokens=st.integers(1, 600),
)


@given(actions=actions, options=limits)
def test_every_item_is_in_exactly_one_batch_unless_its_request_left(
    actions: list[tuple], options: BatchingOptions
) -> None:
    batcher = Batcher(options)
    added: dict[int, list[int]] = {}
    left: set[int] = set()
    served: list[tuple[int, int]] = []
    waiting: list[tuple[int, int]] = []
    urgent_from: dict[int, float] = {}
    # How many batches an item may still see run without it.
    patience: dict[tuple[int, int], int] = {}

    def ahead(item: tuple[int, int]) -> int:
        return sum(urgent_from[other[0]] <= urgent_from[item[0]] for other in waiting if other != item)

    def take(now: float) -> None:
        for late in batcher.expire(now):
            left.add(late)  # type: ignore[arg-type]
        waiting[:] = [each for each in waiting if each[0] not in left]
        batch = batcher.next_batch(now)
        assert bool(batch) == bool(waiting), "work conserving: a batch exactly when something waits"
        if not batch:
            return
        taken = [(ticket.request, ticket.index) for ticket in batch]
        first = min(urgent_from[request] for request, _ in waiting)
        assert first in {urgent_from[request] for request, _ in taken}, "who is urgent longest is never passed over"
        urgent = [urgent_from[request] <= now for request, _ in taken]
        assert all(urgent) or not any(urgent_from[request] <= now for request, _ in waiting)
        assert lengths(batch) == sorted(lengths(batch))
        if len(batch) > 1:
            assert len(batch) <= options.max_batch_items
            assert len(batch) * max(lengths(batch)) <= options.max_batch_tokens
            assert all(urgent) or len(batch) * max(lengths(batch)) <= options.background_batch_tokens
        for request, index in taken:
            assert added[request][index] == next(t.length for t in batch if (t.request, t.index) == (request, index))
            waiting.remove((request, index))
            del patience[request, index]
        served.extend(taken)
        for item in waiting:
            patience[item] -= 1
            assert patience[item] >= 0, "nothing starves"
        assert batcher.queue_items == len(waiting)
        assert batcher.queue_tokens == sum(added[request][index] for request, index in waiting)

    for now, action in enumerate(actions):
        if action[0] == "add":
            _, added[now], seconds, priority = action
            urgent_from[now] = now + (options.ageing if priority == "batch" else 0)
            batcher.add(now, added[now], now, None if seconds is None else now + seconds, priority)
            new = [(now, index) for index in range(len(added[now]))]
            waiting += new
            # What is urgent before a waiting batch item may arrive after it.
            patience |= {item: ahead(item) for item in new}
            for item in set(waiting) - set(new):
                patience[item] += len(new) if urgent_from[now] < urgent_from[item[0]] else 0
        elif action[0] == "cancel":
            batcher.cancel(action[1])
            if action[1] in added:
                left.add(action[1])
            waiting[:] = [each for each in waiting if each[0] != action[1]]
        else:
            take(now)
    while batcher.queue_items:
        take(len(actions))
    assert len(served) == len(set(served))
    expected = {
        (request, index) for request, sizes in added.items() if request not in left for index in range(len(sizes))
    }
    assert expected <= set(served)


def test_of_several_idle_streams_each_gets_its_share_of_what_waits() -> None:
    batcher = Batcher()
    batcher.add("a", [10] * 9, now=0.0)
    assert [len(batcher.next_batch(0.0, idle)) for idle in (3, 2, 1)] == [3, 3, 3]
    batcher.add("b", [500, 3], now=0.0)
    assert lengths(batcher.next_batch(0.0, 4)) == [500]
    assert lengths(batcher.next_batch(0.0, 3)) == [3]
