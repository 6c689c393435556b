"""Batches have one of a few shapes, without much padding, where a runtime compiles kernels for each shape."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_build.bundle import open_bundle
from service.engine.batching import Batcher
from service.engine.loop import EngineLoop
from service.engine.shapes import AnyShape, FewShapes
from service.engine.tensors import Tensors
from service.messages.inference import Item
from service.messages.launch import BatchingOptions
from service.parent.supervisor import Supervisor
from service.runtime.base import RuntimeOptions
from tests.service.parent.test_supervisor import engine_of

few = FewShapes()


@given(st.integers(1, 4096))
def test_a_row_grows_by_less_than_eight_tokens_or_an_eighth(tokens: int) -> None:
    assert tokens <= few.length(tokens) < tokens + max(8, tokens / 8)
    assert few.length(few.length(tokens)) == few.length(tokens)


@given(st.integers(1, 4096))
def test_a_batch_takes_more_than_half_of_what_there_is_and_no_row_that_is_not_there(items: int) -> None:
    assert items / 2 < few.rows(items) <= items


@given(
    st.lists(st.integers(1, 200), min_size=1, max_size=80), st.integers(1, 2000), st.integers(1, 64), st.integers(1, 4)
)
def test_every_batch_has_a_shape_that_was_warmed_up(
    lengths: list[int], max_tokens: int, max_items: int, idle: int
) -> None:
    """… or is a single row, which may be longer than the limit."""
    longest = 200
    batcher = Batcher(BatchingOptions(max_batch_tokens=max_tokens, max_batch_items=max_items), few)
    shapes = set(few.all(max_tokens, max_items, longest))
    batcher.add("a", lengths, now=0.0)
    seen: list[int] = []
    while batch := batcher.next_batch(0.0, idle):
        columns = min(longest, few.length(max(ticket.length for ticket in batch)))
        assert (len(batch), columns) in shapes
        seen += [ticket.index for ticket in batch]
    assert sorted(seen) == list(range(len(lengths)))


def test_there_are_few_of_them() -> None:
    shapes = list(few.all(512, 64, 512))
    assert len(shapes) == len(set(shapes)) == 87
    assert len({rows * columns for rows, columns in shapes}) == 32
    assert list(AnyShape().all(512, 64, 512)) == []


@pytest.mark.parametrize("name", ["reviews", "characters"])
def test_arrays_have_one_of_the_shapes_and_their_outputs_are_those_of_the_items(tiny_models: Path, name: str) -> None:
    import onnxruntime

    bundle = open_bundle(tiny_models / name / "1")
    session = onnxruntime.InferenceSession(str(bundle.graph("onnx")[0]), providers=["CPUExecutionProvider"])
    named = [spec.name for spec in bundle.manifest.outputs]
    masks = {1: [1], 2: [], 3: [0, 2]} if name == "characters" else {}
    items = [
        Item([1, *range(7, 7 + count), 2], [0] * (count + 2), masks.get(count, [1]) or [1], [5, 6])
        for count in (1, 2, 9)
    ]
    found = {}
    for shapes in (AnyShape(), few):
        tensors = Tensors(bundle, shapes)
        arrays = tensors.inputs(items)
        outputs = dict(
            zip(
                named, session.run(None, {spec.name: arrays[spec.name] for spec in bundle.manifest.inputs}), strict=True
            )
        )
        found[type(shapes)] = arrays, tensors.outputs(outputs, items)
    (_, exact), (arrays, padded) = found[AnyShape], found[FewShapes]
    assert arrays["input_ids"].shape == (3, 16)
    if name == "characters":
        assert len(arrays["mask_positions"]) == 4
    for one, other in zip(exact, padded, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        for mask, same in zip(one.masks, other.masks, strict=True):
            np.testing.assert_allclose(mask.top_scores, same.top_scores, atol=1e-5)
            np.testing.assert_allclose(mask.target_scores, same.target_scores, atol=1e-5)


def test_all_of_them_are_run_on_every_stream_before_the_engine_is_ready(tiny_models: Path) -> None:
    class Noting:
        backend, streams, compiles_shapes = "noting", 2, True

        def __init__(self) -> None:
            self.seen: set[tuple[int, tuple[int, ...]]] = set()

        def run(self, inputs: dict[str, np.ndarray], stream: int = 0) -> dict[str, np.ndarray]:
            self.seen.add((stream, inputs["input_ids"].shape))
            return {"logits": np.zeros((len(inputs["input_ids"]), 3), dtype=np.float32)}

        def close(self) -> None:
            pass

    runtime, options = Noting(), BatchingOptions(max_batch_tokens=512)
    EngineLoop(runtime, Tensors(open_bundle(tiny_models / "reviews" / "1"), few), Batcher(options, few)).warm_up()
    wanted = few.all(options.max_batch_tokens, options.max_batch_items, 64)
    assert runtime.seen >= {(stream, shape) for shape in wanted for stream in (0, 1)}


async def test_openvino_answers_texts_of_any_length_in_those_shapes(tiny_models: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed; the extra openvino brings it")
    bundle = open_bundle(tiny_models / "reviews" / "1")
    items = [Item([1, *[7] * count, 2], [0] * (count + 2)) for count in range(1, 62)]
    options = BatchingOptions(max_batch_tokens=512)
    supervisor = Supervisor(bundle, RuntimeOptions(runtime="openvino", streams=2), options)
    batches: list[int] = []
    supervisor.on_batch = lambda batch: batches.append(batch.padded_tokens)
    async with engine_of(supervisor) as engine:
        together = await engine.infer(items)
        alone = await asyncio.gather(*(engine.infer([item]) for item in items))
    for one, other in zip(together.outputs, alone, strict=True):
        np.testing.assert_allclose(one.scores, other.outputs[0].scores, atol=1e-5)
    assert set(batches) <= {rows * columns for rows, columns in few.all(512, 64, 64)}
