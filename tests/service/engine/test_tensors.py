"""Items become padded arrays, and outputs find back to their items."""

from pathlib import Path

import numpy as np
import pytest

from model_build.bundle import BundleError, open_bundle
from service.engine.tensors import InvalidItem, OutputError, Tensors
from service.messages.inference import Item, MaskOutput, Output


@pytest.fixture
def classify(tiny_models: Path) -> Tensors:
    return Tensors(open_bundle(tiny_models / "reviews" / "1"))


@pytest.fixture
def fill_mask(tiny_models: Path) -> Tensors:
    return Tensors(open_bundle(tiny_models / "characters" / "1"))


def test_rows_are_padded_to_the_longest_and_masks_become_flat_positions(fill_mask: Tensors) -> None:
    items = [Item([1, 3, 9, 2], [0, 0, 0, 0], [1], [7, 8]), Item([1, 3, 3, 8, 9, 2], [0] * 3 + [1] * 3, [1, 2])]
    arrays = fill_mask.inputs(items)
    assert arrays["input_ids"].tolist() == [[1, 3, 9, 2, 0, 0], [1, 3, 3, 8, 9, 2]]
    assert arrays["token_type_ids"].tolist() == [[0] * 6, [0, 0, 0, 1, 1, 1]]
    assert arrays["mask_positions"].tolist() == [1, 7, 8]
    assert arrays["target_ids"].tolist() == [[7, 8], [0, 0], [0, 0]]
    assert {array.dtype.name for array in arrays.values()} == {"int64"}


def test_mask_outputs_are_dealt_out_to_the_items_that_asked(fill_mask: Tensors) -> None:
    items = [Item([1, 3, 2], [0] * 3, [1], [7]), Item([1, 3, 3, 2], [0] * 4, [1, 2])]
    scores = np.array([[0.5, 0.25], [0.75, 0.125], [0.5, 0.5]], dtype=np.float32)
    arrays = {"top_ids": np.array([[9, 8], [7, 6], [5, 4]]), "top_scores": scores, "target_scores": scores[:, :1]}
    first, second = fill_mask.outputs(arrays, items)
    assert first.masks == [MaskOutput([9, 8], [0.5, 0.25], [0.5])]
    assert second.masks == [MaskOutput([7, 6], [0.75, 0.125], []), MaskOutput([5, 4], [0.5, 0.5], [])]


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        (Item([], []), "has 0 tokens"),
        (Item([1] * 65, [0] * 65), "has 65 tokens, but the model takes 1 to 64"),
        (Item([1, 2], [0]), "has 2 ids, but 1 token types"),
        (Item([1, 10_000], [0, 0]), "input_ids must be between"),
        (Item([1, -1], [0, 0]), "input_ids must be between"),
        (Item([1, 2], [0, 9]), "token_type_ids must be between"),
        (Item([1, 2], [0, 0], [2]), "mask_positions must be between 0 and 1"),
        (Item([1, 2], [0, 0], [1], [10_000]), "target_ids must be between"),
        (Item([1, 2], [0, 0]), "names no mask position"),
    ],
)
def test_an_item_that_could_crash_the_runtime_is_refused(fill_mask: Tensors, item: Item, sentence: str) -> None:
    with pytest.raises(InvalidItem, match=sentence):
        fill_mask.check(item)


def test_scores_that_are_no_numbers_are_never_answered(classify: Tensors) -> None:
    items = classify.example(1, 4)
    with pytest.raises(OutputError, match="not finite"):
        classify.outputs({"logits": np.array([[np.nan, 0.0, 1.0]], dtype=np.float32)}, items)
    with pytest.raises(OutputError, match=r"shape \[2, 3\] for 1 rows"):
        classify.outputs({"logits": np.zeros((2, 3), dtype=np.float32)}, items)


def test_an_item_that_is_raw_gets_the_outputs_of_the_graph(classify: Tensors) -> None:
    items = [Item([1, 2], [0, 0]), Item([1, 2], [0, 0], raw=True)]
    scores, raw = classify.outputs({"logits": np.array([[0.0, 0.0, -99.0], [0.0, 0.0, -99.0]], np.float32)}, items)
    assert scores.scores == pytest.approx([0.5, 0.5, 0.0])
    assert raw.scores == [0.0, 0.0, -99.0]


def test_a_graph_with_another_number_of_classes_than_labels_is_refused(classify: Tensors) -> None:
    with pytest.raises(BundleError, match="has 3 labels, but its graph 2 classes"):
        classify.check_labels(Output(scores=[0.5, 0.5]))
