"""Cutting a step's batch into pieces loses nothing and changes no loss."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.conftest import SETTINGS, Small
from training.pretraining.data import open_data
from training.pretraining.initial_model import initial_model
from training.pretraining.masked_batches import MaskedBatch
from training.pretraining.micro_batches import micro_batches
from training.pretraining.objectives import Pretraining, Targets
from training.runs.data_parallel import ProcessGroup
from training.runs.optimizer_step import accumulate_gradients


def batch_of(small: Small, cache: Path, layout: str, size: int = 24) -> MaskedBatch:
    settings = dataclasses.replace(SETTINGS, layout=layout, batch_size=size)
    data = open_data(
        small.corpora,
        small.vocab,
        small.config,
        settings,
        evaluation_samples=8,
        threads=1,
        cache=cache,
        group=ProcessGroup(),
    )
    return data.train.at(0)


def contents(batch: MaskedBatch) -> list[tuple[object, ...]]:
    """Every sample as (tokens, types, where it is masked, labels, order), in a form that does not know its place."""
    width = batch.input_ids.shape[1]
    found = []
    for index, cls in enumerate(batch.cls_positions):
        row, start = divmod(int(cls), width)
        if batch.segment_ids is None:
            length = int(batch.lengths[row])
        else:
            length = int((batch.segment_ids[row] == batch.segment_ids[row, start]).sum())
            assert batch.position_ids[row, start : start + length].tolist() == list(range(length))
        here = (batch.mask_positions >= cls) & (batch.mask_positions < cls + length)
        found.append(
            (
                tuple(batch.input_ids[row, start : start + length].tolist()),
                tuple(batch.token_type_ids[row, start : start + length].tolist()),
                tuple((batch.mask_positions[here] - cls).tolist()),
                tuple(batch.labels[here].tolist()),
                int(batch.sentence_order_labels[index]),
            )
        )
    return sorted(found)


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_every_sample_is_in_exactly_one_piece_with_its_targets(small: Small, tmp_path: Path, layout: str) -> None:
    batch = batch_of(small, tmp_path, layout)

    @given(st.integers(1, 3000), st.sampled_from([1, 8]))
    def check(tokens: int, multiple: int) -> None:
        pieces = micro_batches(batch, tokens, pad_multiple=multiple)
        assert sorted(each for piece in pieces for each in contents(piece)) == contents(batch)
        assert all(piece.input_ids.size <= tokens or len(piece.input_ids) == 1 for piece in pieces)
        assert sum(len(piece.labels) for piece in pieces) == len(batch.labels)

    check()


def padding_share(batches: list[MaskedBatch]) -> float:
    return 1 - sum(int(each.lengths.sum()) for each in batches) / sum(each.input_ids.size for each in batches)


def test_rows_of_similar_length_together_waste_less_on_padding(small: Small, tmp_path: Path) -> None:
    batch = batch_of(small, tmp_path, "padded", size=64)
    assert padding_share(micro_batches(batch, 256)) < 0.6 * padding_share([batch])


def test_loss_and_gradients_of_a_step_do_not_depend_on_how_it_is_cut_or_laid_out(small: Small, tmp_path: Path) -> None:
    model = initial_model(small.config, dataclasses.replace(SETTINGS, dropout=0.0), None)
    objective, found = Pretraining(), []
    for layout, tokens in (("padded", 10**6), ("padded", 200), ("padded", 1), ("packed", 10**6), ("packed", 128)):
        batch = batch_of(small, tmp_path, layout)
        pieces = micro_batches(batch, tokens)
        factors = objective.factors(Targets.of(batch, ProcessGroup()))
        sums = accumulate_gradients(pieces, lambda piece: objective.sums(model, piece), factors)
        gradients = [each.grad.numpy().copy() for each in model.parameters()]
        for each in model.parameters():
            each.clear_gradient()
        found.append((sums, gradients))
    (sums, gradients), *others = found
    assert sums[0] > 1
    assert sums[1] > 1
    for other_sums, other_gradients in others:
        np.testing.assert_allclose(other_sums, sums, rtol=1e-5)
        for one, other in zip(gradients, other_gradients, strict=True):
            np.testing.assert_allclose(other, one, atol=2e-6)
