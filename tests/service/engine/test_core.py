"""The logic of the engine without sockets, threads or a clock: the test gives messages, results and the time."""

from pathlib import Path

import pytest

from model_build.bundle import open_bundle
from service.engine.batching import Batcher
from service.engine.core import EngineCore, Pass
from service.engine.tensors import Tensors
from service.messages.inference import Alive, BatchDone, Cancel, Failed, Infer, Inferred, Item, Output, Probe, Started
from service.messages.launch import BatchingOptions
from tests.service.stand_in import write_bundle

TEXT = Item([1, 9, 2], [0] * 3)


@pytest.fixture
def core(tmp_path: Path) -> EngineCore:
    """Two streams, batches of one text."""
    tensors = Tensors(open_bundle(write_bundle(tmp_path, "classify", "reviews")))
    return EngineCore(tensors, Batcher(BatchingOptions(max_batch_items=1)), streams=2, now=0.0)


def outputs(of: Pass) -> list[Output]:
    return [Output(scores=[1.0, 0.0, 0.0]) for _ in of.items]


def test_inference_is_wall_time_and_never_more_than_the_request_took(core: EngineCore) -> None:
    core.receive("client", Infer(1, [TEXT] * 3, sent=1.0), 1.5)
    first, second = core.start_pass(2.0), core.start_pass(2.0)
    assert first
    assert second
    core.finish_pass(first, outputs(first), 5.0)
    third = core.start_pass(5.0)
    assert third
    core.finish_pass(second, outputs(second), 6.0)
    core.finish_pass(third, outputs(third), 8.0)
    (inferred,) = [message for _, message in core.take_messages(8.0) if isinstance(message, Inferred)]
    # The passes took 3, 4 and 3 seconds; from the start of the first one to the end of the last one 6 went by.
    assert (inferred.queue_seconds, inferred.inference_seconds) == (1.0, 6.0)
    assert inferred.queue_seconds + inferred.inference_seconds == 8.0 - 1.0


def test_a_batch_that_fails_is_halved_down_to_the_text_that_makes_it_fail(tmp_path: Path) -> None:
    tensors = Tensors(open_bundle(write_bundle(tmp_path, "classify", "reviews")))
    core = EngineCore(tensors, Batcher(), streams=1, now=0.0)
    for number in range(4):
        core.receive("client", Infer(number, [Item([1, 5 + number, 2], [0] * 3)]), 0.0)
    while started := core.start_pass(0.0):
        bad = any(item.input_ids[1] == 7 for item in started.items)
        core.finish_pass(started, RuntimeError("of no matter") if bad else outputs(started), 0.0)
    messages = [message for _, message in core.take_messages(0.0)]
    assert {message.id for message in messages if isinstance(message, Inferred)} == {0, 1, 3}
    (failed,) = [message for message in messages if isinstance(message, Failed)]
    assert (failed.id, failed.code) == (2, "engine_failed")
    assert core.idle


def test_a_cancelled_request_is_neither_run_nor_answered(core: EngineCore) -> None:
    core.receive("client", Infer(1, [TEXT]), 0.0)
    core.receive("client", Cancel(1), 0.0)
    assert core.start_pass(0.0) is None
    assert core.take_messages(0.0) == []


def test_a_client_that_is_gone_gets_nothing_and_others_get_theirs(core: EngineCore) -> None:
    core.receive("gone", Infer(1, [TEXT]), 0.0)
    core.receive("here", Infer(1, [TEXT]), 0.0)
    core.disconnect("gone")
    started = core.start_pass(0.0)
    assert started
    core.finish_pass(started, outputs(started), 1.0)
    assert [(client, type(message)) for client, message in core.take_messages(1.0)] == [
        ("here", Started),
        ("here", Inferred),
    ]


def test_reports_of_batches_are_sent_together_and_before_the_answer_to_a_probe(core: EngineCore) -> None:
    core.receive("supervisor", Probe(3600.0), 0.0)
    core.take_messages(0.0)
    for number in range(3):
        core.receive("client", Infer(number, [TEXT]), 0.0)
        started = core.start_pass(0.0)
        assert started
        core.finish_pass(started, outputs(started), 0.01)
    assert not [message for _, message in core.take_messages(0.01) if isinstance(message, BatchDone)]
    core.receive("supervisor", Probe(3600.0), 0.02)
    kinds = [type(message) for client, message in core.take_messages(0.02) if client == "supervisor"]
    assert kinds == [BatchDone, BatchDone, BatchDone, Alive]


def test_the_error_of_a_pass_that_only_shows_that_the_graph_runs_is_raised(core: EngineCore) -> None:
    core.receive("supervisor", Probe(1.0), 10.0)
    started = core.start_pass(10.0)
    assert started
    assert started.batch is None
    with pytest.raises(RuntimeError, match="the graph has gone"):
        core.finish_pass(started, ValueError("the graph has gone"), 11.0)
