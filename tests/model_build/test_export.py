"""An export writes a bundle whose graphs agree with eager mode, or nothing."""

import json
import sys
import types
from pathlib import Path

import numpy as np
import onnx
import paddle
import pytest

from model_build import export
from model_build.bundle import BundleError, find_bundles, open_bundle, read_vocabulary, verify_bundle
from model_build.checkpoint import Checkpoint, save_checkpoint
from model_build.cli import main
from model_build.config import ErnieConfig
from model_build.heads import ErnieForMaskedLM, ErnieForSequenceClassification
from model_build.onnx_graph import save_onnx

CHARACTERS = "今天气真好我们去公园散步吧这家酒店的房间很干净服务周到下次还会再来，。"
TOKENS = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]", *dict.fromkeys(CHARACTERS)]
CONFIG = ErnieConfig(
    vocab_size=len(TOKENS) + 7, hidden_size=24, num_hidden_layers=2, num_attention_heads=4,
    intermediate_size=48, max_position_embeddings=64,
)  # fmt: skip


def checkpoint(directory: Path, task: str) -> Path:
    paddle.seed(5)
    # Large weights, so that the scores of a wrong graph differ clearly.
    config = ErnieConfig.from_dict({**CONFIG.to_dict(), "initializer_range": 0.5})
    model = ErnieForMaskedLM(config) if task == "fill-mask" else ErnieForSequenceClassification(config, 3)
    vocab = directory / "vocab-source.txt"
    vocab.write_text("\n".join(TOKENS), encoding="utf-8")
    labels = ["差", "中", "好"] if task == "classify" else []
    about = Checkpoint(config, task, 64, labels, evaluation={"accuracy": 0.5})  # type: ignore[arg-type]
    save_checkpoint(directory / task, about, model, vocab, [])
    return directory / task


def with_vocabulary(source: Path, text: str) -> Path:
    (source / "vocab.txt").write_text(text, encoding="utf-8")
    return source


@pytest.mark.parametrize("lacking", ["[MASK]", "[PAD]"])
def test_a_classifier_needs_neither_a_mask_token_nor_a_padding_token(tmp_path: Path, lacking: str) -> None:
    tokens = ["[unused]" if token == lacking else token for token in TOKENS]
    source = with_vocabulary(checkpoint(tmp_path, "classify"), "\ufeff" + "\n".join(tokens))
    assert read_vocabulary(export.export_checkpoint(source, tmp_path / "models").vocab_path) == tokens


def test_a_vocabulary_that_lacks_a_needed_token_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for task, lacking in (("classify", "[UNK]"), ("fill-mask", "[MASK]")):
        tokens = ["[unused]" if token == lacking else token for token in TOKENS]
        source = with_vocabulary(checkpoint(tmp_path, task), "\n".join(tokens))
        assert main(["export", str(source), "--models", str(tmp_path / "models")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.endswith(f"vocab.txt lacks {lacking}, which the model needs; copy the vocabulary of its training.")


def test_the_scores_are_those_of_the_checkpoint_or_of_the_flag(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = checkpoint(tmp_path, "classify")
    config = json.loads((source / "config.json").read_text("utf-8"))
    assert config["problem_type"] == "single_label_classification"
    config["problem_type"] = "multi_label_classification"
    (source / "config.json").write_text(json.dumps(config), "utf-8")
    models = tmp_path / "models"
    assert export.export_checkpoint(source, models).manifest.scores == "sigmoid"
    assert main(["export", str(source), "--models", str(models), "--model-version", "2", "--scores", "raw"]) == 0
    assert open_bundle(models / "classify" / "2").manifest.scores == "raw"
    masked = checkpoint(tmp_path, "fill-mask")
    capsys.readouterr()
    assert main(["export", str(masked), "--models", str(models), "--scores", "raw"]) == 2
    assert "--scores is for classifiers of texts" in capsys.readouterr().err


def test_a_model_with_one_output_is_exported_and_answers_a_number(tmp_path: Path) -> None:
    config = ErnieConfig.from_dict(CONFIG.to_dict())
    vocab = tmp_path / "vocab-source.txt"
    vocab.write_text("\n".join(TOKENS), encoding="utf-8")
    about = Checkpoint(config, "classify", 64, ["score"])
    save_checkpoint(tmp_path / "match", about, ErnieForSequenceClassification(config, 1), vocab, [])
    bundle = export.export_checkpoint(tmp_path / "match", tmp_path / "models")
    assert (bundle.manifest.scores, bundle.manifest.outputs[0].shape) == ("raw", [-1, 1])


@pytest.fixture(params=["classify", "fill-mask"])
def exported(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    source = checkpoint(tmp_path, request.param)
    assert main(["export", str(source), "--models", str(tmp_path / "models"), "--name", "m"]) == 0
    return tmp_path / "models"


def test_both_graphs_agree_with_eager_mode_and_the_manifest_has_the_error(exported: Path) -> None:
    (bundle,) = find_bundles(exported)
    # The graph that Paddle 3 writes is not put into the bundle.
    assert set(bundle.manifest.graphs) == ({"onnx"} if export.SAVES_PIR else {"paddle", "onnx"})
    written = {path.name for path in (bundle.directory / "graph").iterdir()}
    graphs = {Path(file).name for graph in bundle.manifest.graphs.values() for file in graph.sha256}
    # PaddleNLP's Taskflow reads these next to the Paddle graph.
    described = set() if export.SAVES_PIR else {"config.json", "tokenizer_config.json", "vocab.txt"}
    assert written == graphs | described
    for graph in bundle.manifest.graphs.values():
        assert graph.parity_max_abs_error is not None
        assert graph.parity_max_abs_error <= 1e-4
    assert bundle.manifest.evaluation == {"accuracy": 0.5}
    verify_bundle(bundle)


def test_no_graph_contains_python_paths(exported: Path) -> None:
    (bundle,) = find_bundles(exported)
    for name in bundle.manifest.graphs:
        assert b".py" not in bundle.graph(name)[0].read_bytes()


def test_the_embedding_table_is_stored_once(exported: Path) -> None:
    (bundle,) = find_bundles(exported)
    graph = onnx.load(str(bundle.graph("onnx")[0])).graph
    constants = [attribute.t for node in graph.node if node.op_type == "Constant" for attribute in node.attribute]
    tables = [tensor for tensor in [*constants, *graph.initializer] if list(tensor.dims) == [CONFIG.vocab_size, 24]]
    assert len(tables) == 1


def test_weights_are_initializers_so_that_quantisers_find_them(exported: Path, tmp_path: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    (bundle,) = find_bundles(exported)
    graph = onnx.load(str(bundle.graph("onnx")[0])).graph
    assert not [node.name for node in graph.node if node.op_type == "Constant"]
    quantize_dynamic(str(bundle.graph("onnx")[0]), str(tmp_path / "int8.onnx"))
    made = [node.op_type for node in onnx.load(str(tmp_path / "int8.onnx")).graph.node]
    weights = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 2}
    products = [node for node in graph.node if node.op_type == "MatMul" and node.input[1] in weights]
    assert made.count("MatMulInteger") == len(products) > 6


@pytest.mark.parametrize("optimises", [True, False])
def test_no_optimiser_of_paddle2onnx_runs_because_it_installs_packages(
    optimises: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensor = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [tensor], [result])
    found = []

    def convert(model: str, params: str, save_file: str, **options: object) -> None:
        found.append(options)
        onnx.save(onnx.helper.make_model(graph, ir_version=8), save_file)

    def version_2(
        model: str, params: str, save_file: str, optimize_tool: str = "polygraphy", **options: object
    ) -> None:
        convert(model, params, save_file, optimize_tool=optimize_tool, **options)

    monkeypatch.setitem(
        sys.modules, "paddle2onnx", types.SimpleNamespace(export=version_2 if optimises else convert)
    )  # fmt: skip
    save_onnx(tmp_path / "model.json", ["x"], ["scores"])
    assert found[0].get("optimize_tool") is None
    assert [each.name for each in onnx.load(str(tmp_path / "model.onnx")).graph.output] == ["scores"]


def test_a_changed_file_is_found(exported: Path) -> None:
    (bundle,) = find_bundles(exported)
    path = bundle.graph("onnx")[0]
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    with pytest.raises(BundleError, match=r"model\.onnx differs from its hash"):
        verify_bundle(bundle)
    assert main(["verify", str(exported)]) == 2


def test_an_existing_version_is_never_overwritten(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (source,) = [path for path in (tmp_path / "classify", tmp_path / "fill-mask") if path.exists()]
    assert main(["export", str(source), "--models", str(exported), "--name", "m"]) == 2
    assert "bundles are immutable" in capsys.readouterr().err


def test_the_fill_mask_graph_returns_only_tokens_of_the_vocabulary(tmp_path: Path) -> None:
    source = checkpoint(tmp_path, "fill-mask")
    assert main(["export", str(source), "--models", str(tmp_path / "models"), "--top-candidates", "9999"]) == 0
    (bundle,) = find_bundles(tmp_path / "models")
    run = export.onnx_runner(bundle.graph("onnx")[0], ["top_ids", "top_scores", "target_scores"])
    ids = np.array([[1, 9, 3, 11, 3, 2]])
    top_ids, top_scores, target_scores = run(
        {
            "input_ids": ids,
            "token_type_ids": np.zeros_like(ids),
            "mask_positions": np.array([2, 4]),
            "target_ids": np.array([[9, 10], [11, 12]]),
        }
    )
    assert sorted(top_ids[0]) == list(range(len(TOKENS)))
    assert np.allclose(top_scores.sum(axis=1), 1, atol=1e-5)
    assert (np.diff(top_scores) <= 0).all()
    for row, targets in enumerate([[9, 10], [11, 12]]):
        for column, target in enumerate(targets):
            assert target_scores[row, column] == top_scores[row][top_ids[row] == target][0]


def test_no_bundle_is_written_if_a_graph_differs_from_eager_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "MAX_PARITY_ERROR", -1.0)
    source = checkpoint(tmp_path, "classify")
    assert main(["export", str(source), "--models", str(tmp_path / "models")]) == 2
    assert list((tmp_path / "models" / "classify").iterdir()) == []


def test_sentences_of_the_parity_check_have_one_id_for_each_character(tmp_path: Path) -> None:
    ids = {token: index for index, token in enumerate(["[CLS]", "[SEP]", "[UNK]", "a", "天"])}
    assert export.character_ids("天A 鑫", ids, 8) == [0, 4, 3, 2, 1]
    assert export.character_ids("天" * 9, ids, 4) == [0, 4, 4, 1]


def test_a_paddlenlp_export_is_read_as_a_bundle(tmp_path: Path) -> None:
    for name in ("model.pdmodel", "model.pdiparams", "vocab.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"0": "no", "1": "yes"}}))
    bundle = open_bundle(tmp_path)
    assert bundle.manifest.labels == ["no", "yes"]
    assert bundle.graph("paddle")[0].name == "model.pdmodel"
    with pytest.raises(BundleError, match="no onnx graph, only paddle"):
        bundle.graph("onnx")


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "Invalid JSON"), ('{"name": "x"}', "version: Field required"), ("[]", "the document")],
)
def test_a_broken_manifest_is_refused_with_one_sentence(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "bundle.json").write_text(content)
    with pytest.raises(BundleError, match=message):
        open_bundle(tmp_path)


def test_the_newest_version_is_found_by_number(exported: Path) -> None:
    (bundle,) = find_bundles(exported)
    for version in ("9", "10"):
        copy = exported / "m" / version
        copy.mkdir()
        manifest = bundle.manifest.model_copy(update={"version": version, "graphs": {}, "vocab_sha256": None})
        (copy / "bundle.json").write_text(manifest.model_dump_json())
        (copy / "vocab.txt").write_text("x")
    (newest,) = find_bundles(exported)
    assert newest.manifest.version == "10"
