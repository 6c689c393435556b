"""The exported forward pass computes the last layer only where it is used; its outputs equal those of the model."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import paddle
import pytest

from model_build.bundle import Bundle
from model_build.config import ErnieConfig
from model_build.ernie import ErnieModel
from model_build.export import parity
from model_build.graphs import FillMaskGraph, LogitsGraph
from model_build.heads import ErnieForMaskedLM, ErnieForSequenceClassification
from model_build.last_layer import first_states, states_at
from model_build.onnx_graph import with_initializers
from model_build.runners import onnx_runner, paddle_runner
from tests.model_build.small_models import batches, small_bundle

SHAPES = [{"num_hidden_layers": 1}, {"num_hidden_layers": 3, "hidden_act": "gelu"}, {"num_attention_heads": 1}]


def config(**shape: object) -> ErnieConfig:
    return ErnieConfig.from_dict(
        {"vocab_size": 60, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
         "max_position_embeddings": 32, "initializer_range": 0.5, **shape}
    )  # fmt: skip


def with_biases(model: paddle.nn.Layer) -> None:
    """Makes the biases non-zero, so that the tests find a missing bias."""
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.set_value(parameter + paddle.normal(0.0, 0.5, parameter.shape))
    model.eval()


@pytest.fixture(params=SHAPES, ids=str)
def ernie(request: pytest.FixtureRequest) -> ErnieModel:
    paddle.seed(3)
    model = ErnieForMaskedLM(config(**request.param))
    with_biases(model)
    return model.ernie


def texts() -> tuple[paddle.Tensor, paddle.Tensor]:
    """Four texts of different length with padding, each of two segments."""
    rng = np.random.default_rng(4)
    ids = rng.integers(1, 60, (4, 11))
    for row, length in enumerate((11, 1, 7, 3)):
        ids[row, length:] = 0
    return paddle.to_tensor(ids), paddle.to_tensor((np.arange(11) > np.array([[5], [4], [3], [2]])).astype("int64"))


def test_the_states_of_first_tokens_equal_those_of_the_model(ernie: ErnieModel) -> None:
    plain = ernie.encode(*texts())[:, 0].numpy()
    assert np.abs(plain).mean() > 0.3
    assert np.abs(first_states(ernie, *texts()).numpy()[:, 0] - plain).max() < 1e-5


@pytest.mark.parametrize("positions", [[0], [3, 24], [25, 4, 24, 4, 36], list(range(44))])
def test_the_states_at_any_positions_equal_those_of_the_model(ernie: ErnieModel, positions: list[int]) -> None:
    plain = ernie.encode(*texts()).numpy().reshape(-1, 24)[positions]
    got = states_at(ernie, *texts(), paddle.to_tensor(positions)).numpy()[0]
    assert np.abs(got - plain).max() < 1e-5


@pytest.mark.parametrize("task", ["classify", "fill-mask"])
def test_the_parity_check_compares_with_the_model_as_it_was_trained(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check must find an error in the shorter forward pass, so it may not use this pass in eager mode."""
    paddle.seed(3)
    shape = config()
    graph: LogitsGraph | FillMaskGraph
    if task == "classify":
        graph = LogitsGraph(ErnieForSequenceClassification(shape, 3), 3)
    else:
        graph = FillMaskGraph(ErnieForMaskedLM(shape), 60, 5)
    with_biases(graph)

    def exported(inputs: dict[str, np.ndarray]) -> Sequence[np.ndarray]:
        outputs = graph(*(paddle.to_tensor(inputs[each.name]) for each in graph.input_specs))
        return [each.numpy() for each in (outputs if isinstance(outputs, tuple) else (outputs,))]

    assert parity(graph, exported, batches(task)) < 1e-5
    monkeypatch.setattr("model_build.graphs.first_states", lambda ernie, *ids: ernie.encode(*ids)[:, -1:])
    monkeypatch.setattr("model_build.graphs.states_at", lambda ernie, *ids: ernie.encode(*ids[:2])[:, 0][None])
    assert parity(graph, exported, batches(task)) > 1e-3


@pytest.fixture(params=["classify", "fill-mask"])
def bundle(request: pytest.FixtureRequest, tmp_path: Path) -> Bundle:
    return small_bundle(tmp_path, request.param, num_hidden_layers=3)


def test_the_feed_forward_of_the_last_layer_runs_only_on_the_rows_that_are_used(bundle: Bundle) -> None:
    model = with_initializers(onnx.load(str(bundle.graph("onnx")[0])))
    widening = {tensor.name for tensor in model.graph.initializer if list(tensor.dims) == [32, 64]}
    wide = [node.output[0] for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in widening]
    assert len(wide) == 3
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in wide)
    inputs = batches(bundle.manifest.task, 1)[0]
    shapes = [found.shape for found in onnx_runner(model.SerializeToString(), wide)(inputs)]
    length = inputs["input_ids"].shape[1]
    assert shapes[:2] == [(4, length, 64)] * 2
    # With three axes; `model_build.last_layer` says why.
    assert shapes[2] == ((4, 1, 64) if bundle.manifest.task == "classify" else (1, 4, 64))


def test_all_graphs_of_a_bundle_give_the_same_outputs(bundle: Bundle) -> None:
    if "paddle" not in bundle.manifest.graphs:
        pytest.skip("Paddle 3 writes no graph for Paddle Inference; Paddle 2.6 does")
    names = [spec.name for spec in bundle.manifest.outputs]
    model, params = bundle.graph("paddle")
    assert params
    runs = paddle_runner(model, params), onnx_runner(bundle.graph("onnx")[0], names)
    for inputs in batches(bundle.manifest.task):
        for spec, one, other in zip(bundle.manifest.outputs, *(run(inputs) for run in runs), strict=True):
            assert spec.dtype != "float32" or np.abs(one - other).max() < 1e-4
