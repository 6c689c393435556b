"""Outputs become scores by the rule that fits the graph, and probabilities are never squeezed again."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from model_build.graph_reader import read_graph
from service.engine.scores import ScoreRule, rule_of, sigmoid, softmax

LOGITS = np.random.default_rng(1).normal(0, 2, (8, 3)).astype(np.float32)
PROBABILITIES = softmax(LOGITS)


def graph(path: Path, *operators: str) -> tuple[Path, None]:
    """An ONNX graph that applies the operators in turn."""
    names = [f"t{index}" for index in range(len(operators) + 1)]
    nodes = [
        helper.make_node(kind, [source, source] if kind == "Add" else [source], [target], **attributes(kind))
        for kind, source, target in zip(operators, names, names[1:], strict=False)
    ]
    inside, outside = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in (names[0], names[-1]))
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [inside], [outside])), str(path))
    return path, None


def attributes(kind: str) -> dict[str, int]:
    return {"to": TensorProto.FLOAT} if kind == "Cast" else {}


@pytest.mark.parametrize(
    ("operators", "kind"),
    [(["Add"], "Add"), (["Add", "Softmax"], "Softmax"), (["Sigmoid", "Cast", "Identity"], "Sigmoid")],
)
def test_the_last_operator_that_changes_values_is_found(tmp_path: Path, operators: list[str], kind: str) -> None:
    assert read_graph(*graph(tmp_path / "model.onnx", *operators)).last_kind() == kind


def test_the_last_operator_of_a_paddle_graph_is_found(paddlenlp_export: Path) -> None:
    export = paddlenlp_export / "reviews"
    assert read_graph(export / "model.pdmodel", export / "model.pdiparams").last_kind() == "elementwise_add"


@pytest.mark.parametrize("content", [b"x", b"\x08", b"\x3a\xff\xff\xff\xff\x0f", bytes(100)])
def test_a_file_that_is_not_a_graph_does_not_decide(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model"
    path.write_bytes(content)
    for files in ((path, None), (path, path), (tmp_path / "absent", None)):
        assert rule_of("softmax", [files], LOGITS) == ScoreRule("softmax")


@pytest.mark.parametrize("declared", ["softmax", "sigmoid"])
def test_probabilities_of_a_softmax_in_the_graph_are_passed_through(tmp_path: Path, declared: str) -> None:
    rule = rule_of(declared, [graph(tmp_path / "model.onnx", "Softmax")], PROBABILITIES)  # type: ignore[arg-type]
    assert rule == ScoreRule("softmax", in_graph=True)
    assert rule.apply(PROBABILITIES).tolist() == PROBABILITIES.tolist()


def test_probabilities_are_found_by_their_sums_where_the_operator_does_not_tell(tmp_path: Path) -> None:
    path = graph(tmp_path / "model.onnx", "Exp")
    assert rule_of("softmax", [path], PROBABILITIES) == ScoreRule("softmax", in_graph=True)
    assert rule_of("softmax", [path], LOGITS) == ScoreRule("softmax")


def test_logits_that_look_like_probabilities_are_logits(tmp_path: Path) -> None:
    # For example a classifier of two labels with opposite weights and the biases 0.5 and 0.5.
    path = graph(tmp_path / "model.onnx", "Add")
    assert rule_of("softmax", [path], PROBABILITIES) == ScoreRule("softmax")
    # The same outputs for every input show nothing.
    assert rule_of("softmax", [], np.full((8, 2), 0.5, np.float32)) == ScoreRule("softmax")
    # Outputs between 0 and 1 alone are not the result of a sigmoid.
    assert rule_of("sigmoid", [path], sigmoid(LOGITS)) == ScoreRule("sigmoid")


def test_probabilities_of_a_sigmoid_in_the_graph_are_passed_through(tmp_path: Path) -> None:
    path = graph(tmp_path / "model.onnx", "Sigmoid")
    assert rule_of("softmax", [path], sigmoid(LOGITS)) == ScoreRule("sigmoid", in_graph=True)
    assert rule_of("softmax", [path], sigmoid(LOGITS)[:, :1]) == ScoreRule("sigmoid", in_graph=True)


def test_a_single_output_is_a_number_unless_a_sigmoid_is_declared(tmp_path: Path) -> None:
    path = graph(tmp_path / "model.onnx", "Add")
    assert rule_of("softmax", [path], LOGITS[:, :1]) == ScoreRule("raw")
    assert rule_of("sigmoid", [path], LOGITS[:, :1]) == ScoreRule("sigmoid")
    assert rule_of("raw", [path], LOGITS) == ScoreRule("raw")


def test_large_logits_give_finite_scores() -> None:
    assert softmax(np.array([[1000.0, 1000.0, -1000.0]])).tolist() == [[0.5, 0.5, 0.0]]
    assert sigmoid(np.array([1000.0, 0.0, -1000.0])).tolist() == [1.0, 0.5, 0.0]
    np.testing.assert_allclose(sigmoid(np.array([4.0, -4.0])), [0.982014, 0.017986], atol=1e-6)
