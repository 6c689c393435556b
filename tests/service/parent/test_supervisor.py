"""A real engine process over a real socket: outputs as the graph alone gives them, and a life of its own."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from model_build.bundle import BundleError, open_bundle, sha256_of
from service.api.models.engine_link import EngineFailed, EngineLink
from service.engine.scores import softmax
from service.messages.inference import BatchDone, Item
from service.messages.launch import BatchingOptions
from service.parent import restarts
from service.parent.supervisor import EngineStartFailed, Running, Supervisor, WatchOptions
from service.runtime.base import RuntimeOptions
from service.runtime.choice import installed


@contextlib.asynccontextmanager
async def engine_of(supervisor: Supervisor) -> AsyncIterator[EngineLink]:
    """A link that follows the supervisor's engine, as an API process does by the parent's table."""
    link = EngineLink()
    attaching: set[asyncio.Task[None]] = set()

    def follow(running: Running | None) -> None:
        if running:
            attaching.add(asyncio.create_task(link.attach(running.socket)))

    supervisor.on_change = follow
    await supervisor.start()
    await asyncio.gather(*attaching)
    try:
        yield link
    finally:
        await link.detach()
        await supervisor.stop()


def items(fill_mask: bool) -> list[Item]:
    rng = np.random.default_rng(3)
    made = []
    for length in (3, 64, 10, 11, 40, 7):
        ids = [1, *rng.integers(5, 40, length - 2).tolist(), 2]
        masks = [1] if fill_mask else []
        made.append(Item(ids, [0] * length, masks, [6, 9] if fill_mask else []))
    return made


# FastDeploy's backends, and the runtimes that take its place where it has no wheel.
OPTIONS = (
    [RuntimeOptions(backend="ort", cpu_threads=1), RuntimeOptions(backend="paddle", cpu_threads=1)]
    if "fastdeploy" in installed()
    else [RuntimeOptions(runtime="onnxruntime", cpu_threads=1), RuntimeOptions(runtime="openvino", cpu_threads=1)]
)


@pytest.mark.parametrize("options", OPTIONS)
async def test_batched_scores_equal_those_of_onnx_runtime_on_each_text_alone(
    tiny_models: Path, options: RuntimeOptions
) -> None:
    for name in ("reviews", "characters"):
        bundle = open_bundle(tiny_models / name / "1")
        session = onnxruntime.InferenceSession(str(bundle.graph("onnx")[0]), providers=["CPUExecutionProvider"])
        async with engine_of(Supervisor(bundle, options)) as engine:
            given = items(name == "characters")
            answers = [await engine.infer(given), *await asyncio.gather(*(engine.infer([item]) for item in given))]
        assert [output for answer in answers[1:] for output in answer.outputs] != []
        for index, item in enumerate(given):
            fed = {"input_ids": np.array([item.input_ids]), "token_type_ids": np.array([item.token_type_ids])}
            if name == "characters":
                fed |= {"mask_positions": np.array(item.mask_positions), "target_ids": np.array([item.target_ids])}
            alone = session.run(None, fed)
            for output in (answers[0].outputs[index], answers[index + 1].outputs[0]):
                if name == "reviews":
                    np.testing.assert_allclose(output.scores, softmax(alone[0])[0], atol=1e-5)
                else:
                    np.testing.assert_allclose(output.masks[0].top_scores, alone[1][0], atol=1e-5)
                    np.testing.assert_allclose(output.masks[0].target_scores, alone[2][0], atol=1e-5)


async def test_what_arrives_during_a_batch_shares_the_next_one(tiny_models: Path) -> None:
    supervisor = Supervisor(
        open_bundle(tiny_models / "reviews" / "1"),
        RuntimeOptions(runtime="onnxruntime", streams=1),  # any runtime of any shape
        BatchingOptions(max_batch_items=16),
    )
    batches: list[BatchDone] = []
    supervisor.on_batch = batches.append
    async with engine_of(supervisor) as engine:
        assert supervisor.pid
        # Suspended, the engine finds all of them in its socket at once.
        os.kill(supervisor.pid, signal.SIGSTOP)
        waiting = [asyncio.create_task(engine.infer([Item([1, 9, 2], [0] * 3)])) for _ in range(20)]
        await asyncio.sleep(0)
        os.kill(supervisor.pid, signal.SIGCONT)
        await asyncio.gather(*waiting)
        while sum(batch.items for batch in batches) < 20:  # the engine tells of them a little later
            await asyncio.sleep(0.01)
    assert sum(batch.items for batch in batches) == 20
    assert len(batches) <= 3
    assert max(batch.items for batch in batches) <= 16
    assert all(batch.tokens == batch.padded_tokens == 3 * batch.items for batch in batches)


async def test_an_invalid_item_fails_its_request_alone(tiny_models: Path) -> None:
    async with engine_of(Supervisor(open_bundle(tiny_models / "reviews" / "1"))) as engine:
        good = asyncio.create_task(engine.infer([Item([1, 9, 2], [0] * 3)]))
        with pytest.raises(EngineFailed, match="input_ids must be between") as caught:
            await engine.infer([Item([1, 99_999, 2], [0] * 3)])
        assert caught.value.code == "invalid_input"
        assert (await good).outputs


POISON = 9


@pytest.fixture
def poisoned(tiny_models: Path, tmp_path: Path) -> Path:
    """The bundle `reviews`, but its embedding of one token is not a number."""
    directory = tmp_path / "poisoned" / "1"
    shutil.copytree(tiny_models / "reviews" / "1", directory)
    graph = onnx.load(str(directory / "graph" / "model.onnx"))
    rows = open_bundle(directory).manifest.architecture["vocab_size"]
    # paddle2onnx writes weights as Constant nodes.
    weights = [attribute.t for node in graph.graph.node if node.op_type == "Constant" for attribute in node.attribute]
    tables = [tensor for tensor in [*weights, *graph.graph.initializer] if list(tensor.dims)[:1] == [rows]]
    for table in tables:
        values = onnx.numpy_helper.to_array(table).copy()
        values[POISON] = np.nan
        table.CopyFrom(onnx.numpy_helper.from_array(values, table.name))
    assert tables
    onnx.save(graph, str(directory / "graph" / "model.onnx"))
    manifest = json.loads((directory / "bundle.json").read_text(encoding="utf-8"))
    manifest["graphs"]["onnx"]["sha256"] = {"graph/model.onnx": sha256_of(directory / "graph" / "model.onnx")}
    (directory / "bundle.json").write_text(json.dumps(manifest), encoding="utf-8")
    return directory


@pytest.mark.parametrize("options", [RuntimeOptions(), RuntimeOptions(runtime="onnxruntime", streams=2)])
async def test_an_input_that_makes_a_batch_fail_fails_alone(poisoned: Path, options: RuntimeOptions) -> None:
    supervisor = Supervisor(open_bundle(poisoned), options)
    async with engine_of(supervisor) as engine:
        assert supervisor.pid
        os.kill(supervisor.pid, signal.SIGSTOP)
        good = [asyncio.create_task(engine.infer([Item([1, 10, 2], [0] * 3)] * count)) for count in (1, 2, 3, 1, 1)]
        bad = asyncio.create_task(engine.infer([Item([1, 10, 2], [0] * 3), Item([1, POISON, 2], [0] * 3)]))
        await asyncio.sleep(0)
        os.kill(supervisor.pid, signal.SIGCONT)
        with pytest.raises(EngineFailed, match="scores that are not finite numbers"):
            await bad
        assert [len((await answer).outputs) for answer in good] == [1, 2, 3, 1, 1]


async def test_what_an_ending_engine_had_not_started_is_run_by_the_next(tiny_models: Path) -> None:
    supervisor = Supervisor(open_bundle(tiny_models / "reviews" / "1"))
    async with engine_of(supervisor) as engine:
        assert supervisor.pid
        os.kill(supervisor.pid, signal.SIGSTOP)
        waiting = asyncio.create_task(engine.infer([Item([1, 9, 2], [0] * 3)]))
        await asyncio.sleep(0)
        os.kill(supervisor.pid, signal.SIGKILL)
        assert (await asyncio.wait_for(waiting, 60)).outputs


async def end_during_a_pass(supervisor: Supervisor, engine: EngineLink, given: list[Item], number: int) -> None:
    """Sends the signal to the engine while it runs the items."""
    for _ in range(10):  # a pass may finish before the signal arrives
        asked = asyncio.create_task(engine.infer(given))
        while not asked.done() and not (engine._client and engine._client._started):
            await asyncio.sleep(0)
        if not asked.done():
            assert supervisor.pid
            os.kill(supervisor.pid, number)
        if isinstance((await asyncio.gather(asked, return_exceptions=True))[0], EngineFailed):
            break
    else:
        raise AssertionError("every pass finished before the signal arrived")
    while engine.ready is None:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("number", "refused"), [(signal.SIGSEGV, True), (signal.SIGKILL, False), (signal.SIGSTOP, False)]
)
async def test_an_input_that_ends_an_engine_is_refused_by_the_next_one(
    slow_models: Path, number: int, refused: bool
) -> None:
    options = RuntimeOptions(runtime="onnxruntime", streams=1)
    watch = WatchOptions(hang_seconds=2.0 if number == signal.SIGSTOP else 60.0)
    supervisor = Supervisor(open_bundle(slow_models / "slow" / "1"), options, watch_options=watch)
    long = [1, *[6] * 500, 2]
    bad, good = Item(long, [0] * len(long)), Item(long[:-1], [0] * (len(long) - 1))
    async with engine_of(supervisor) as engine:
        await end_during_a_pass(supervisor, engine, [bad], number)
        assert (await engine.infer([good])).outputs
        if refused:
            with pytest.raises(EngineFailed, match="ended the engine earlier") as caught:
                await engine.infer([good, bad])
            assert caught.value.code == "refused_input"
        else:  # whoever stopped or killed the engine, it was not its input
            assert (await engine.infer([bad, good])).outputs


async def test_of_the_inputs_of_one_pass_that_ends_an_engine_none_is_refused_unless_it_does_so_again(
    slow_models: Path,
) -> None:
    supervisor = Supervisor(open_bundle(slow_models / "slow" / "1"), RuntimeOptions(runtime="onnxruntime", streams=1))
    long = [1, *[6] * 500, 2]
    bad, good = Item(long, [0] * len(long)), Item(long[:-1], [0] * (len(long) - 1))
    async with engine_of(supervisor) as engine:
        await end_during_a_pass(supervisor, engine, [bad, good], signal.SIGSEGV)
        assert (await engine.infer([good])).outputs
        await end_during_a_pass(supervisor, engine, [bad], signal.SIGSEGV)
        with pytest.raises(EngineFailed, match="ended the engine earlier"):
            await engine.infer([bad])
        assert (await engine.infer([good])).outputs


async def test_an_engine_that_stops_answering_is_first_not_trusted_and_then_killed(tiny_models: Path) -> None:
    supervisor = Supervisor(open_bundle(tiny_models / "reviews" / "1"), watch_options=WatchOptions(hang_seconds=1.5))
    async with engine_of(supervisor):
        first = supervisor.pid
        assert first
        seen: list[str] = []
        over = asyncio.Event()

        def note(running: Running | None) -> None:
            seen.append("gone" if running is None else "trusted" if running.responsive else "not trusted")
            if seen[-2:] == ["gone", "trusted"]:
                over.set()

        supervisor.on_change = note
        os.kill(first, signal.SIGSTOP)
        await asyncio.wait_for(over.wait(), 60)
        assert seen == ["not trusted", "gone", "trusted"]
        assert supervisor.pid != first


async def test_an_engine_that_ends_again_and_again_is_given_up(tiny_models: Path) -> None:
    supervisor = Supervisor(open_bundle(tiny_models / "reviews" / "1"), watch_options=WatchOptions(max_restarts=1))
    given_up = asyncio.get_running_loop().create_future()
    restarted = asyncio.Event()
    async with engine_of(supervisor):
        supervisor.on_give_up = given_up.set_result
        supervisor.on_change = lambda running: restarted.set() if running else None
        assert supervisor.pid
        os.kill(supervisor.pid, signal.SIGKILL)
        await asyncio.wait_for(restarted.wait(), 60)
        assert supervisor.pid
        os.kill(supervisor.pid, signal.SIGKILL)
        assert await asyncio.wait_for(given_up, 60) == "the engine of reviews has failed 2 times in a row."


async def test_the_time_to_warm_up_is_no_service_and_does_not_keep_hope_alive(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = Supervisor(open_bundle(tiny_models / "reviews" / "1"), watch_options=WatchOptions(max_restarts=1))
    loop = asyncio.get_running_loop()
    began, given_up = loop.time(), loop.create_future()
    async with engine_of(supervisor):
        # Every start takes longer than what counts as long service.
        monkeypatch.setattr(restarts, "STABLE_SECONDS", (loop.time() - began) / 4)

        def end(running: Running | None) -> None:
            if running and supervisor.pid:
                os.kill(supervisor.pid, signal.SIGKILL)

        supervisor.on_give_up = given_up.set_result
        supervisor.on_change = end
        end(supervisor.running)
        assert await asyncio.wait_for(given_up, 60) == "the engine of reviews has failed 2 times in a row."


async def test_an_engine_ends_when_its_supervisor_is_gone(tiny_models: Path) -> None:
    supervisor = Supervisor(open_bundle(tiny_models / "reviews" / "1"))
    await supervisor.start()
    process = supervisor._process
    assert process is not None
    assert process.stdin is not None
    supervisor._stopping = True  # nobody restarts it, as when the whole process has died
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 10) == 0
    await supervisor.stop()


async def test_the_first_start_that_fails_says_why(tiny_models: Path, tmp_path: Path) -> None:
    bundle = open_bundle(tiny_models / "reviews" / "1")
    with pytest.raises(EngineStartFailed, match=r"the GPU was asked for|has no CUDAExecutionProvider"):
        await Supervisor(bundle, RuntimeOptions(device="gpu")).start()
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("model.pdmodel", "model.pdiparams"):
        (broken / name).write_bytes(b"no graph")
    (broken / "vocab.txt").write_bytes(bundle.vocab_path.read_bytes())
    with pytest.raises(EngineStartFailed, match=r"model\.pdmodel cannot be read as a graph"):
        await Supervisor(open_bundle(broken)).start()
    (broken / "vocab.txt").unlink()
    with pytest.raises(BundleError, match="neither a bundle"):
        open_bundle(broken)
