"""The engine's loop over real sockets, with a graph that the test holds up: what is read, what is run, what is said."""

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx
import msgspec
import numpy as np
import pytest

from model_build.bundle import open_bundle
from service.api.models.engine_link import EngineLink
from service.engine import lone, loop
from service.engine.batching import Batcher
from service.engine.loop import EngineLoop
from service.engine.tensors import Tensors
from service.messages.frames import FrameReader, frame
from service.messages.inference import (
    Alive,
    BatchDone,
    Cancel,
    Infer,
    Inferred,
    Item,
    Output,
    Probe,
    Ready,
    ToApi,
    ToEngine,
)
from tests.service.stand_in import LABELS, application, client_of, write_bundle

Message = TypeVar("Message")
TEXT = Item([1, 9, 2], [0] * 3)
FIRST, DROPPED, LAST, FREE = 5, 6, 7, 8  # tokens by which the graph's runs are told apart; FREE is not held up


class HeldGraph:
    """A runtime whose forward passes begin, say so, and wait to be let go; `seen` has the second token of each row."""

    backend = "held"
    compiles_shapes = False

    def __init__(self, streams: int = 1) -> None:
        self.streams = streams
        self.seen: list[int] = []
        self.on: set[int] = set()
        self.runs = 0
        self.threads: list[int] = []
        self.begun = threading.Event()
        self.go = threading.Event()
        self.go.set()

    def run(self, inputs: dict[str, np.ndarray], stream: int = 0) -> dict[str, np.ndarray]:
        self.runs += 1
        self.threads.append(threading.get_ident())
        ids = inputs["input_ids"]
        seen = ids[:, 1].tolist() if ids.shape[1] > 1 else []
        self.seen += seen
        assert stream not in self.on, "two passes on one stream"
        self.on.add(stream)
        self.begun.set()
        if seen != [FREE]:
            assert self.go.wait(60)
        self.on.discard(stream)
        return {"logits": np.zeros((len(ids), len(LABELS)), dtype=np.float32)}

    def close(self) -> None:
        pass


class Client:
    """One connection to an engine, as blocking calls."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._frames = FrameReader(ToApi)
        self._heard: deque[object] = deque()
        self._all: list[object] = []
        self.reads = 0

    def say(self, *messages: msgspec.Struct) -> None:
        self._connection.sendall(b"".join(map(frame, messages)))

    def has_heard(self, kind: type[Message]) -> bool:
        """Whether a message of a kind has come, asked for or not."""
        return any(isinstance(message, kind) for message in self._all)

    def hears(self, kind: type[Message]) -> Message:
        """The next message of a kind."""
        while True:
            while self._heard:
                if isinstance(message := self._heard.popleft(), kind):
                    return message
            data = self._connection.recv(1 << 20)
            self.reads += 1
            assert data, "the engine closed the connection"
            messages = list(self._frames.feed(data))
            self._heard.extend(messages)
            self._all += messages


@dataclass
class Running:
    """An engine that has warmed up, and its graph."""

    path: Path
    graph: HeldGraph
    parent: int

    def stop(self) -> None:
        """Says that the engine is to end when its queue is done."""
        os.write(self.parent, b".")

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """While the block runs a forward pass does, of a request of its own; with one stream nothing is read."""
        self.graph.begun.clear()
        self.graph.go.clear()
        with self.connected() as other:
            other.say(text(1, FIRST))
            assert self.graph.begun.wait(60)
            try:
                yield
            finally:
                self.graph.go.set()
            other.hears(Inferred)

    @contextlib.contextmanager
    def connected(self) -> Iterator[Client]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as opened:
            opened.settimeout(60)
            opened.connect(str(self.path))
            yield Client(opened)


def listens(path: Path) -> bool:
    """Whether there is somebody at a socket: it has its path a moment sooner."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as opened:
        return opened.connect_ex(str(path)) == 0


@contextlib.contextmanager
def running(directory: Path, streams: int) -> Iterator[Running]:
    graph = HeldGraph(streams)
    tensors = Tensors(open_bundle(write_bundle(directory, "classify", "reviews")))
    made = EngineLoop(graph, tensors, Batcher())
    made.warm_up()
    graph.seen.clear()
    reading, writing = os.pipe()
    path = directory / "engine"
    thread = threading.Thread(target=made.serve, args=(path, reading))
    thread.start()
    while not listens(path):
        time.sleep(0.001)
    try:
        yield Running(path, graph, writing)
    finally:
        graph.go.set()
        os.write(writing, b".")
        thread.join(60)
        os.close(reading)
        os.close(writing)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path, streams=1) as made:
        yield made


@pytest.fixture
def two_streams(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path, streams=2) as made:
        yield made


def text(number: int, token: int, count: int = 1) -> Infer:
    return Infer(number, [Item([1, token, 2], [0] * 3)] * count)


def test_what_was_cancelled_during_a_batch_is_not_run_however_much_stands_before_it(
    engine: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "READ_BYTES", 64)  # one read does not give all that waits, as with large requests
    with engine.connected() as client:
        with engine.busy():
            client.say(*(text(number, DROPPED) for number in range(40)))
            client.say(*(Cancel(number) for number in range(40)), text(40, LAST))
        assert client.hears(Inferred).id == 40
    assert engine.graph.seen == [FIRST, LAST]


def test_a_connection_is_heard_no_longer_than_its_turn(engine: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "READ_BYTES", 64)
    monkeypatch.setattr(loop, "MAX_TURN_BYTES", 64)
    before = engine.graph.runs
    with engine.connected() as client:
        with engine.busy():
            client.say(*(text(number, LAST) for number in range(40)))
        assert {client.hears(Inferred).id for _ in range(40)} == set(range(40))
    assert engine.graph.runs - before > 10  # a batch after each turn


async def test_a_caller_that_gives_up_takes_its_texts_out_of_the_engine(engine: Running) -> None:
    link = EngineLink()
    await link.attach(engine.path)
    with engine.busy():
        given_up = [asyncio.create_task(link.infer([Item([1, DROPPED, 2], [0] * 3)])) for _ in range(3)]
        kept = asyncio.create_task(link.infer([Item([1, LAST, 2], [0] * 3)]))
        await asyncio.sleep(0)
        for task in given_up:
            task.cancel()
        await asyncio.wait(given_up)
        await asyncio.sleep(0)
    assert (await kept).outputs
    assert all(task.cancelled() for task in given_up)
    assert engine.graph.seen == [FIRST, LAST]
    await link.detach()


def test_the_wait_counts_from_when_a_request_was_sent_and_not_from_when_it_was_read(engine: Running) -> None:
    with engine.connected() as client:
        now = time.monotonic()
        client.say(Infer(1, [TEXT], sent=now - 5.0), Infer(2, [TEXT], sent=now + 3600.0))
        waits = {answer.id: answer.queue_seconds for answer in (client.hears(Inferred), client.hears(Inferred))}
        assert 5.0 <= waits[1] <= 5.0 + time.monotonic() - now
        assert waits[2] >= 0


def test_a_probe_is_answered_with_a_forward_pass_no_older_than_it_asks_for(engine: Running) -> None:
    with engine.connected() as supervisor:
        runs = engine.graph.runs
        supervisor.say(Probe(3600.0))
        supervisor.hears(Alive)
        assert engine.graph.runs == runs
        supervisor.say(Probe(0.0))
        supervisor.hears(Alive)
        assert engine.graph.runs == runs + 1


def test_an_answer_to_a_probe_says_what_waits_and_in_the_end_that_nothing_does(engine: Running) -> None:
    with engine.connected() as client:
        with engine.busy():
            client.say(text(1, LAST), text(2, LAST, count=2), Probe(3600.0))
        assert client.hears(Alive) == Alive(3, 9)
        client.say(Cancel(1), Cancel(2), Probe(3600.0))
        assert client.hears(Alive) == Alive(0, 0)


def test_passes_run_beside_each_other_and_are_answered_as_they_end(two_streams: Running) -> None:
    with two_streams.connected() as client:
        with two_streams.busy():
            client.say(text(1, FREE))
            assert client.hears(Inferred).id == 1  # while the other is held up
            assert two_streams.graph.on, "the first pass has ended"
        assert two_streams.graph.seen == [FIRST, FREE]


def test_requests_that_come_alone_stay_on_one_thread_until_one_comes_beside_another(
    two_streams: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lone, "SHORT_PASS_SECONDS", 60.0)  # or a hiccup of the machine would begin the count anew
    threads = two_streams.graph.threads
    with two_streams.connected() as client:
        for number in range(2 * lone.PASSES_ALONE):
            client.say(text(number, FREE))
            assert client.hears(Inferred).id == number
        assert len(set(threads[-lone.PASSES_ALONE + 1 :])) == 1
        with two_streams.busy():
            client.say(Infer(100, [TEXT], sent=time.monotonic()))  # nobody reads it, but it is run next
        assert client.hears(Inferred).id == 100
        with two_streams.busy():
            client.say(text(101, FREE))
            assert client.hears(Inferred).id == 101


def test_a_longer_text_after_short_ones_that_came_alone_is_no_obstacle(
    two_streams: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lone, "SHORT_PASS_SECONDS", 60.0)
    with two_streams.connected() as client, two_streams.connected() as other:
        for number in range(lone.PASSES_ALONE):
            client.say(text(number, FREE))
            assert client.hears(Inferred).id == number
        two_streams.graph.begun.clear()
        two_streams.graph.go.clear()
        client.say(Infer(100, [Item([1, *[LAST] * 8, 2], [0] * 10)]))
        assert two_streams.graph.begun.wait(60)
        other.say(text(1, FREE))
        assert other.hears(Inferred).id == 1  # while the long one is held up
        two_streams.graph.go.set()
        assert client.hears(Inferred).id == 100


@pytest.mark.parametrize("streams", [1, 2])
def test_what_lies_unread_when_the_engine_is_to_end_is_answered_and_every_batch_reported(
    tmp_path: Path, streams: int
) -> None:
    with running(tmp_path, streams) as engine, engine.connected() as client, engine.connected() as supervisor:
        supervisor.say(Probe(3600.0))
        supervisor.hears(Alive)
        engine.graph.go.clear()
        for number in range(streams):
            engine.graph.begun.clear()
            client.say(text(number, FIRST))
            assert engine.graph.begun.wait(60)
        client.say(text(streams, LAST))
        engine.stop()
        engine.graph.go.set()
        assert {client.hears(Inferred).id for _ in range(streams + 1)} == set(range(streams + 1))
        assert sum(supervisor.hears(BatchDone).items for _ in range(streams + 1)) == streams + 1


def test_a_request_of_several_texts_is_shared_by_idle_streams(two_streams: Running) -> None:
    before = two_streams.graph.runs
    with two_streams.connected() as client:
        two_streams.graph.go.clear()
        client.say(text(1, LAST, count=10))
        while two_streams.graph.runs - before < 2:
            time.sleep(0.001)
        two_streams.graph.go.set()
        assert len(client.hears(Inferred).outputs) == 10
    assert two_streams.graph.runs - before == 2


def test_what_is_cancelled_while_all_streams_are_busy_is_not_run(two_streams: Running) -> None:
    with two_streams.connected() as client, two_streams.connected() as asking:
        with two_streams.busy():
            client.say(text(1, LAST, count=2), text(2, DROPPED), Cancel(2), Probe(3600.0))
            asking.say(text(3, DROPPED), Cancel(3))
        assert client.hears(Inferred).id == 1
    assert DROPPED not in two_streams.graph.seen


def test_a_request_that_is_cancelled_while_it_runs_is_not_answered(tmp_path: Path) -> None:
    with running(tmp_path, streams=3) as engine, engine.connected() as client:
        with engine.busy():
            for messages in ([text(1, DROPPED)], [Cancel(1), text(1, LAST, count=2)]):
                engine.graph.begun.clear()
                client.say(*messages)
                assert engine.graph.begun.wait(60)
        assert len(client.hears(Inferred).outputs) == 2
        client.say(text(2, FREE))
        assert client.hears(Inferred).id == 2


def test_batches_are_reported_together_and_the_last_without_waiting_for_the_next(two_streams: Running) -> None:
    with two_streams.connected() as client, two_streams.connected() as supervisor:
        supervisor.say(Probe(3600.0))
        supervisor.hears(Alive)
        for number in range(20):
            client.say(text(number, FREE))
            assert client.hears(Inferred).id == number
        assert [supervisor.hears(BatchDone).items for _ in range(20)] == [1] * 20
        assert supervisor.reads < 20


def test_a_stream_that_hangs_leaves_a_probe_unanswered_while_another_goes_on(two_streams: Running) -> None:
    with two_streams.connected() as client, two_streams.connected() as supervisor:
        with two_streams.busy():
            supervisor.say(Probe(3600.0))
            for number in range(3):
                client.say(text(number, FREE))
                assert client.hears(Inferred).id == number
                assert isinstance(supervisor.hears(BatchDone), BatchDone)
            assert not supervisor.has_heard(Alive)
        supervisor.hears(Alive)


async def test_deadline_and_priority_of_a_request_over_http_come_to_the_engine(tmp_path: Path) -> None:
    got: list[Infer] = []

    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = FrameReader(ToEngine)
        writer.write(frame(Ready(len(LABELS), "none", 0.0)))
        while data := await reader.read(1 << 20):
            for message in frames.feed(data):
                if isinstance(message, Infer):
                    got.append(message)
                    output = Output(scores=[1.0, 0.0, 0.0])
                    writer.write(frame(Inferred(message.id, [output] * len(message.items), 0.0, 0.0)))
        writer.close()

    app, _ = application(tmp_path, {"reviews": "classify"}, request_timeout_ms=50_000)
    link = app.state.catalog.served["reviews"].engine = EngineLink()
    server = await asyncio.start_unix_server(engine, str(tmp_path / "engine"))
    await link.attach(tmp_path / "engine")
    asked: list[tuple[dict[str, object], str, float]] = [
        ({}, "interactive", 50.0),
        ({"priority": "batch", "timeout_ms": 20_000}, "batch", 20.0),
        ({"priority": "interactive", "timeout_ms": 70_000}, "interactive", 70.0),
    ]
    async with client_of(app) as client:
        for more, priority, seconds in asked:
            before = time.monotonic()
            answer: httpx.Response = await client.post("/classify", json={"text": "今天", **more})
            after = time.monotonic()
            assert answer.status_code == 200
            (message,) = got
            got.clear()
            assert message.priority == priority
            assert message.deadline is not None
            assert before + seconds <= message.deadline <= after + seconds
            assert message.sent is not None
            assert before <= message.sent <= after
    await link.detach()
    server.close()
