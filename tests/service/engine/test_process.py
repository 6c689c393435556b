"""A real engine process over a real socket: outputs as the graph alone gives them, and a life of its own."""

import asyncio
import signal
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from model_build.bundle import BundleError, open_bundle
from service.engine.batching import BatchingOptions
from service.engine.client import EngineFailed
from service.engine.messages import BatchDone, Item
from service.engine.supervisor import EngineStartFailed, Supervisor
from service.engine.tensors import softmax
from service.runtime.base import RuntimeOptions


def items(fill_mask: bool) -> list[Item]:
    rng = np.random.default_rng(3)
    made = []
    for length in (3, 64, 10, 11, 40, 7):
        ids = [1, *rng.integers(5, 40, length - 2).tolist(), 2]
        masks = [1] if fill_mask else []
        made.append(Item(ids, [0] * length, masks, [6, 9] if fill_mask else []))
    return made


@pytest.mark.parametrize("backend", ["ort", "paddle"])
async def test_batched_scores_equal_those_of_onnx_runtime_on_each_text_alone(tiny_models: Path, backend: str) -> None:
    for name in ("reviews", "characters"):
        bundle = open_bundle(tiny_models / name / "1")
        session = onnxruntime.InferenceSession(str(bundle.graph("onnx")[0]), providers=["CPUExecutionProvider"])
        engine = Supervisor(bundle, RuntimeOptions(backend=backend, cpu_threads=1))  # type: ignore[arg-type]
        await engine.start()
        given = items(name == "characters")
        answers = [await engine.infer(given), *await asyncio.gather(*(engine.infer([item]) for item in given))]
        await engine.stop()
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
    engine = Supervisor(open_bundle(tiny_models / "reviews" / "1"), batching=BatchingOptions(max_batch_items=16))
    batches: list[BatchDone] = []
    engine.on_batch = batches.append
    await engine.start()
    assert engine.pid
    # Suspended, the engine finds all of them in its socket at once.
    import os

    os.kill(engine.pid, signal.SIGSTOP)
    waiting = [asyncio.create_task(engine.infer([Item([1, 9, 2], [0] * 3)])) for _ in range(20)]
    await asyncio.sleep(0)
    os.kill(engine.pid, signal.SIGCONT)
    await asyncio.gather(*waiting)
    await engine.stop()
    assert sum(batch.items for batch in batches) == 20
    assert len(batches) <= 3
    assert max(batch.items for batch in batches) <= 16
    assert all(batch.tokens == batch.padded_tokens == 3 * batch.items for batch in batches)


async def test_an_invalid_item_fails_its_request_alone(tiny_models: Path) -> None:
    engine = Supervisor(open_bundle(tiny_models / "reviews" / "1"))
    await engine.start()
    good = asyncio.create_task(engine.infer([Item([1, 9, 2], [0] * 3)]))
    with pytest.raises(EngineFailed, match="input_ids must lie between") as caught:
        await engine.infer([Item([1, 99_999, 2], [0] * 3)])
    assert caught.value.code == "invalid_input"
    assert (await good).outputs
    await engine.stop()


async def test_an_engine_ends_when_its_supervisor_is_gone(tiny_models: Path) -> None:
    engine = Supervisor(open_bundle(tiny_models / "reviews" / "1"))
    await engine.start()
    process = engine._process
    assert process is not None
    assert process.stdin is not None
    engine._stopping = True  # nobody restarts it, as when the whole process has died
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 10) == 0
    await engine.stop()


async def test_the_first_start_that_fails_says_why(tiny_models: Path, tmp_path: Path) -> None:
    bundle = open_bundle(tiny_models / "reviews" / "1")
    with pytest.raises(EngineStartFailed, match="the GPU was asked for"):
        await Supervisor(bundle, RuntimeOptions(device="gpu")).start()
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("model.pdmodel", "model.pdiparams"):
        (broken / name).write_bytes(b"no graph")
    (broken / "vocab.txt").write_bytes(bundle.vocab_path.read_bytes())
    with pytest.raises(EngineStartFailed, match="died with status"):
        await Supervisor(open_bundle(broken)).start()
    (broken / "vocab.txt").unlink()
    with pytest.raises(BundleError, match="neither a bundle"):
        open_bundle(broken)
