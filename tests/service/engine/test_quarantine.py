"""Inputs that ended an engine: what the next engine finds, refuses, runs alone and clears; without processes."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_build.bundle import open_bundle
from service.engine.batching import Batcher
from service.engine.core import EngineCore
from service.engine.quarantine import MAX_HASHES, Quarantine, item_hash
from service.engine.tensors import Tensors
from service.messages.inference import Failed, Infer, Inferred, Item, Output
from tests.service.stand_in import write_bundle

BAD, GOOD, OTHER = (Item([1, token, 2], [0] * 3) for token in (5, 6, 7))


@pytest.fixture
def memory() -> Iterator[int]:
    file = os.memfd_create("test")
    yield file
    os.close(file)


def engine_dies(memory: int, *passes: list[Item], killed: bool = False) -> Quarantine:
    """What an engine finds whose predecessor died while it ran these passes."""
    before = Quarantine(memory, streams=4, max_items=4)
    left = [before.running(stream, items) for stream, items in enumerate(passes)]
    for each in left:
        each.__enter__()  # the process ends here, so nothing leaves the block
    return Quarantine(memory, streams=4, max_items=4, killed=killed)


def test_an_item_that_was_alone_when_the_engine_died_is_refused(memory: int) -> None:
    after = engine_dies(memory, [BAD])
    assert after.refuses([GOOD, BAD])
    assert not after.refuses([GOOD])
    assert not after.suspects
    assert Quarantine(memory, 4, 4).refuses([BAD]), "the engine after the next one knows it too"


@pytest.mark.parametrize("passes", [[[BAD, GOOD]], [[BAD], [GOOD]], [[BAD, BAD]]])
def test_items_that_were_not_alone_are_suspects_and_none_is_refused(memory: int, passes: list[list[Item]]) -> None:
    after = engine_dies(memory, *passes)
    assert not after.refused
    assert after.suspects_any([BAD])
    assert set(after.suspects) == {item_hash(item) for items in passes for item in items}


def test_an_engine_that_ends_between_passes_accuses_no_item(memory: int) -> None:
    before = Quarantine(memory, 4, 4)
    with before.running(0, [BAD]):
        pass
    after = Quarantine(memory, 4, 4)
    assert not after.refused
    assert not after.suspects


def test_an_item_of_an_engine_that_was_killed_from_outside_is_a_suspect_and_refused_the_second_time(
    memory: int,
) -> None:
    assert list(engine_dies(memory, [BAD], killed=True).suspects) == [item_hash(BAD)]
    assert engine_dies(memory, [BAD], killed=True).refuses([BAD])


def test_a_suspect_whose_pass_finishes_is_cleared_for_all_engines_that_follow(memory: int) -> None:
    engine_dies(memory, [BAD, GOOD]).clear([GOOD])
    assert list(Quarantine(memory, 4, 4).suspects) == [item_hash(BAD)]
    assert engine_dies(memory, [BAD]).refuses([BAD])


def test_the_oldest_hashes_are_forgotten(memory: int) -> None:
    for number in range(MAX_HASHES + 1):
        after = engine_dies(memory, [Item([number], [0])])
    assert len(after.refused) == MAX_HASHES
    assert not after.refuses([Item([0], [0])])
    assert after.refuses([Item([1], [0])])
    assert after.refuses([Item([MAX_HASHES], [0])])


def test_a_larger_memory_is_used_when_the_next_engine_has_more_streams(memory: int) -> None:
    Quarantine(memory, 1, 4)
    after = Quarantine(memory, 3, 4)
    left = after.running(2, [BAD])
    left.__enter__()
    assert Quarantine(memory, 3, 4).refuses([BAD])


def test_the_hash_depends_on_everything_that_reaches_the_graph() -> None:
    items = [
        Item([1, 2], [0, 0]),
        Item([2, 1], [0, 0]),
        Item([1, 2], [0, 1]),
        Item([1, 2], [0, 0], [1]),
        Item([1, 2], [0, 0], [1], [3]),
    ]
    assert len({item_hash(item) for item in items}) == len(items)


def test_the_record_of_a_pass_takes_microseconds() -> None:
    quarantine, items = Quarantine(None, 1, 64), [Item([1, *[9] * 126, 2], [0] * 128)]
    seconds = []
    for _ in range(200):
        begun = time.perf_counter()
        with quarantine.running(0, items):
            pass
        seconds.append(time.perf_counter() - begun)
    assert min(seconds) < 100e-6


# The engine's logic with a quarantine


def core_after(tmp_path: Path, memory: int, *passes: list[Item]) -> EngineCore:
    tensors = Tensors(open_bundle(write_bundle(tmp_path, "classify", "reviews")))
    return EngineCore(tensors, Batcher(), streams=2, now=0.0, quarantine=engine_dies(memory, *passes))


def outputs(items: object) -> list[Output]:
    return [Output(scores=[1.0, 0.0, 0.0]) for _ in items]  # type: ignore[attr-defined]


def test_a_request_with_a_refused_text_fails_and_others_run(tmp_path: Path, memory: int) -> None:
    core = core_after(tmp_path, memory, [BAD])
    core.receive("client", Infer(1, [GOOD, BAD]), 0.0)
    core.receive("client", Infer(2, [GOOD]), 0.0)
    [(_, failed)] = core.take_messages(0.0)
    assert isinstance(failed, Failed)
    assert (failed.id, failed.code) == (1, "refused_input")
    started = core.start_pass(0.0)
    assert started
    assert started.items == [GOOD]


def test_a_suspect_runs_alone_item_by_item_and_is_then_like_all_others(tmp_path: Path, memory: int) -> None:
    core = core_after(tmp_path, memory, [BAD, GOOD])
    core.receive("client", Infer(1, [OTHER]), 0.0)
    running = core.start_pass(0.0)
    assert running
    core.receive("client", Infer(2, [GOOD, OTHER]), 0.0)
    core.receive("client", Infer(3, [OTHER]), 0.0)
    assert core.start_pass(0.0) is None, "another pass runs"
    assert core.timeout(0.0) not in (0.0, None)
    core.finish_pass(running, outputs(running.items), 1.0)
    for item in (GOOD, OTHER):
        assert core.again
        apart = core.start_pass(1.0)
        assert apart
        assert apart.items == [item]
        assert core.start_pass(1.0) is None, "a suspect runs"
        assert core.timeout(1.0) not in (0.0, None)
        core.finish_pass(apart, outputs(apart.items), 2.0)
    assert core.again
    last = core.start_pass(2.0)
    assert last
    core.finish_pass(last, outputs(last.items), 3.0)
    assert not core.again
    answered = [message.id for _, message in core.take_messages(3.0) if isinstance(message, Inferred)]
    assert answered == [1, 2, 3]
    assert core.idle
    core.receive("client", Infer(4, [GOOD, OTHER]), 3.0)
    cleared = core.start_pass(3.0)
    assert cleared
    assert not cleared.apart


def test_a_suspect_whose_time_runs_out_or_whose_client_leaves_is_not_run(tmp_path: Path, memory: int) -> None:
    core = core_after(tmp_path, memory, [BAD, GOOD])
    core.receive("client", Infer(1, [GOOD, GOOD], deadline=1.0), 0.0)
    core.receive("gone", Infer(1, [BAD]), 0.0)
    core.disconnect("gone")
    assert core.start_pass(2.0) is None
    [(_, failed)] = core.take_messages(2.0)
    assert isinstance(failed, Failed)
    assert failed.code == "deadline_exceeded"
    assert core.idle
