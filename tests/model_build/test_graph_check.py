"""What is read from a graph without its library, and which bundles are refused before a runtime loads them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from model_build.bundle import BundleError, GraphFile, Manifest, TensorSpec, open_bundle, sha256_of
from model_build.bundle_check import check_bundle
from model_build.graph_reader import GraphError, read_graph

TOKENS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *"今天好"]
EMBEDDED = Path(__file__).resolve().parents[2] / "models"


def graph(
    rows: int, names: tuple[str, str] = ("input_ids", "token_type_ids"), constant: bool = False
) -> onnx.ModelProto:
    """A classifier: the means of two embedding tables, added. Its table is an initializer or a Constant node."""
    tables = {"words": np.ones((rows, 2), np.float32), "types": np.zeros((2, 2), np.float32)}
    tensors = [numpy_helper.from_array(table, name) for name, table in tables.items()]
    nodes = [helper.make_node("Constant", [], [each.name], value=each) for each in tensors] if constant else []
    nodes += [
        helper.make_node("Cast", [names[0]], ["ids"], to=TensorProto.INT64),
        helper.make_node("Gather", ["words", "ids"], ["a"]),
        helper.make_node("Gather", ["types", names[1]], ["b"]),
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("ReduceMean", ["sum"], ["logits"], axes=[1], keepdims=0),
    ]
    ids = [helper.make_tensor_value_info(name, TensorProto.INT64, ["B", "S"]) for name in names]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", 2])
    made = helper.make_graph(nodes, "g", ids, [logits], [] if constant else tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)])


def bundle(directory: Path, model: onnx.ModelProto, change: Callable[[dict], None] = lambda manifest: None) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(directory / "model.onnx"))
    (directory / "vocab.txt").write_text("\n".join(TOKENS), encoding="utf-8")
    manifest = Manifest(
        name="reviews",
        version="1",
        task="classify",
        max_length=8,
        vocab_sha256=sha256_of(directory / "vocab.txt"),
        graphs={"onnx": GraphFile(path="model.onnx", sha256={"model.onnx": sha256_of(directory / "model.onnx")})},
        inputs=[TensorSpec(name=name, dtype="int64", shape=[-1, -1]) for name in ("input_ids", "token_type_ids")],
        outputs=[TensorSpec(name="logits", dtype="float32", shape=[-1, 2])],
    ).model_dump()
    change(manifest)
    (directory / "bundle.json").write_text(json.dumps(manifest), encoding="utf-8")
    return directory


def refusal(directory: Path) -> str:
    with pytest.raises(BundleError) as caught:
        check_bundle(open_bundle(directory))
    sentence = str(caught.value)
    assert str(directory) in sentence
    return sentence


@pytest.mark.parametrize("constant", [False, True])
def test_a_table_smaller_than_the_vocabulary_is_refused_with_both_numbers(tmp_path: Path, constant: bool) -> None:
    check_bundle(open_bundle(bundle(tmp_path, graph(len(TOKENS), constant=constant))))
    check_bundle(open_bundle(bundle(tmp_path, graph(len(TOKENS) + 3, constant=constant))))
    sentence = refusal(bundle(tmp_path, graph(len(TOKENS) - 1, constant=constant)))
    assert f"has {len(TOKENS)} tokens, but the embedding table of the graph has {len(TOKENS) - 1} rows" in sentence


def test_a_table_in_external_data_within_the_folder_is_checked_by_its_dims(tmp_path: Path) -> None:
    for rows in (len(TOKENS), len(TOKENS) - 1):
        directory = bundle(tmp_path / str(rows), graph(rows))
        external = graph(rows)
        path = str(directory / "model.onnx")
        onnx.save(external, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
        manifest = json.loads((directory / "bundle.json").read_text(encoding="utf-8"))
        names = ("model.onnx", "weights.bin")
        manifest["graphs"]["onnx"]["sha256"] = {name: sha256_of(directory / name) for name in names}
        (directory / "bundle.json").write_text(json.dumps(manifest), encoding="utf-8")
    check_bundle(open_bundle(tmp_path / str(len(TOKENS))))
    assert "rows; use the vocab.txt of its training" in refusal(tmp_path / str(len(TOKENS) - 1))


def test_a_larger_vocab_size_in_the_manifest_does_not_hide_the_smaller_table(tmp_path: Path) -> None:
    def larger(manifest: dict) -> None:
        manifest["architecture"] = {"vocab_size": 1000}

    assert "rows" in refusal(bundle(tmp_path, graph(len(TOKENS) - 1), larger))


def test_a_vocabulary_with_another_line_is_refused_by_name(tmp_path: Path) -> None:
    bundle(tmp_path, graph(100))
    (tmp_path / "vocab.txt").write_text("\n".join([TOKENS[0], "x", *TOKENS[1:]]), encoding="utf-8")
    with pytest.raises(BundleError, match=r"vocab\.txt differs from its hash in bundle\.json"):
        open_bundle(tmp_path)


def test_a_bundle_of_an_earlier_release_has_no_hash_of_its_vocabulary(tmp_path: Path) -> None:
    check_bundle(open_bundle(bundle(tmp_path, graph(100), lambda manifest: manifest.pop("vocab_sha256"))))


@pytest.mark.parametrize("names", [("input_ids", "attention_mask"), ("a", "b"), ("token_type_ids", "x")])
def test_inputs_with_unknown_names_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    sentence = refusal(bundle(tmp_path, graph(100, names)))
    assert f"the inputs of the graph are {names[0]}, {names[1]}, but they must be: input_ids or src_ids" in sentence


@pytest.mark.parametrize("names", [("src_ids", "sent_ids"), ("input_ids", "segment_ids")])
def test_inputs_with_other_known_names_are_accepted(tmp_path: Path, names: tuple[str, str]) -> None:
    check_bundle(open_bundle(bundle(tmp_path, graph(100, names))))


def test_a_manifest_with_other_tensors_than_its_task_is_refused(tmp_path: Path) -> None:
    assert "classify needs" in refusal(bundle(tmp_path, graph(100), lambda manifest: manifest["inputs"].pop()))


def test_the_embedded_graphs_are_accepted_and_more_tokens_than_positions_are_not(tmp_path: Path) -> None:
    for path in EMBEDDED.glob("*/*"):
        check_bundle(open_bundle(path))
    copy = Path(shutil.copytree(next(EMBEDDED.glob("sentiment/*")), tmp_path / "long"))
    manifest = json.loads((copy / "bundle.json").read_text(encoding="utf-8"))
    (copy / "bundle.json").write_text(json.dumps({**manifest, "max_length": 257}), encoding="utf-8")
    assert "the maximum length is 257 tokens, but the graph has 256 positions" in refusal(copy)


def test_a_paddle_program_and_its_parameters_must_belong_together(tmp_path: Path) -> None:
    source = next(EMBEDDED.glob("masked-lm/*")) / "graph"
    model, params = (Path(shutil.copy(source / f"model.{end}", tmp_path)) for end in ("pdmodel", "pdiparams"))
    assert read_graph(model, params).table_rows() == {"input_ids": 4800, "token_type_ids": 2, "positions": 256}
    weights = params.read_bytes()
    for wrong in (weights[:-5], weights[:1000], weights + weights[-2000:], b"", b"\xff" * 100):
        params.write_bytes(wrong)
        with pytest.raises(GraphError, match=r"model\.pdiparams"):
            read_graph(model, params)


@pytest.mark.parametrize("kind", [b"quantize_linear", b"fake_quantize_a"])
def test_a_compressed_paddle_graph_is_refused_by_the_name_of_its_operator(tmp_path: Path, kind: bytes) -> None:
    copy = Path(shutil.copytree(next(EMBEDDED.glob("masked-lm/*")), tmp_path / "quantised"))
    model = copy / "graph" / "model.pdmodel"
    # A name of the same length, so that the lengths of the messages around it stay right.
    model.write_bytes(model.read_bytes().replace(b"\x1a\x0felementwise_add", b"\x1a\x0f" + kind, 1))
    manifest = json.loads((copy / "bundle.json").read_text(encoding="utf-8"))
    for each in manifest["graphs"].values():
        each["sha256"] = {}
    (copy / "bundle.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert f"has the operator {kind.decode()} of a compressed model, which no runtime" in refusal(copy)


@pytest.mark.parametrize("end", ["onnx", "pdmodel"])
def test_a_damaged_graph_is_one_sentence(tmp_path: Path, end: str) -> None:
    whole = (next(EMBEDDED.glob("masked-lm/*")) / "graph" / f"model.{end}").read_bytes()
    file = tmp_path / f"model.{end}"
    for size in (0, 1, 100, 5000, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(GraphError, match=r"copy it again|export the model again"):
            read_graph(file, None if end == "onnx" else tmp_path / "absent")
