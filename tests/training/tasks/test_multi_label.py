"""Multi-label data: files in every format, metrics, and a model trained, exported and compared with eager mode."""

import json
from pathlib import Path

import numpy as np
import paddle
import pytest

from model_build.bundle import open_bundle
from model_build.checkpoint import load_model
from model_build.config import ErnieConfig
from model_build.runners import onnx_runner
from training.cli.__main__ import main
from training.datasets.examples import MultiLabelExample
from training.datasets.multi_label import read_multi_label
from training.tasks.metrics import best_threshold, multi_label_scores

TEXTS = {"快递太慢": "物流", "房间不错": "质量", "快递慢房间脏": "物流,质量", "今天天气": ""}
CHARACTERS = "".join(TEXTS)
TOKENS = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]", *dict.fromkeys(CHARACTERS)]


def table(path: Path) -> Path:
    rows = "".join(f"{labels}\t{text}\n" for text, labels in TEXTS.items()) * 8
    path.write_text(f"label\ttext_a\n{rows}", encoding="utf-8")
    return path


def start(directory: Path) -> Path:
    """A folder with the shape of a small model and a vocabulary."""
    directory.mkdir()
    config = ErnieConfig(
        vocab_size=len(TOKENS), hidden_size=32, num_hidden_layers=1, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=32, initializer_range=0.1,
    )  # fmt: skip
    (directory / "config.json").write_text(json.dumps(config.to_dict()), encoding="utf-8")
    (directory / "vocab.txt").write_text("\n".join(TOKENS) + "\n", encoding="utf-8")
    return directory


def example(labels: str, text: str) -> MultiLabelExample:
    return MultiLabelExample(labels, text, labels=tuple(filter(None, labels.split(","))))


def test_every_format_gives_the_same_examples(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(f"{text}\t{labels}\n" for text, labels in TEXTS.items()), encoding="utf-8")
    lines = [{"text": text, "labels": labels.split(",") if labels else []} for text, labels in TEXTS.items()]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    expected = [example(labels, text) for text, labels in TEXTS.items()]
    assert read_multi_label(tmp_path / "a.txt") == read_multi_label(tmp_path / "a.jsonl") == expected
    assert read_multi_label(table(tmp_path / "a.tsv"))[:4] == expected


@pytest.mark.parametrize(
    ("separator", "flag"), [(",", "--multi-label;"), ("|", "--multi-label --label-separator '|';")]
)
def test_a_file_that_looks_multi_label_ends_with_one_question(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], separator: str, flag: str
) -> None:
    path = table(tmp_path / "train.tsv")
    rows = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("\t")]
    path.write_text("\n".join(rows).replace(",", separator), encoding="utf-8")
    command = [
        "finetune",
        "--pretrained",
        str(start(tmp_path / "start")),
        "--from-scratch",
        "--output",
        str(tmp_path / "o"),
    ]
    assert main([*command, "--train", str(path), "--dev", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"is '物流{separator}质量' several labels of one text? Then give {flag}" in line


def test_metrics_count_labels_and_whole_texts() -> None:
    gold = np.array([[1, 0], [1, 1], [0, 0]], dtype=bool)
    found = multi_label_scores(gold, np.array([[0.9, 0.6], [0.4, 0.7], [0.1, 0.2]]), ["a", "b"], 0.5)
    assert found["subset_accuracy"] == pytest.approx(1 / 3)
    assert found["micro_f1"] == pytest.approx(4 / 6)
    assert found["labels"]["a"] == {
        "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "examples": 2,
        "best_threshold": 0.4, "best_f1": 1.0,
    }  # fmt: skip
    assert best_threshold(np.array([False]), np.array([0.3])) == (0.5, 0.0)


def test_a_model_is_trained_and_exported_and_its_probabilities_are_those_of_eager_mode(tmp_path: Path) -> None:
    data, output = table(tmp_path / "train.tsv"), tmp_path / "topics"
    command = [
        "finetune", "--pretrained", str(start(tmp_path / "start")), "--from-scratch", "--multi-label",
        "--train", str(data), "--dev", str(data), "--output", str(output), "--models", str(tmp_path / "models"),
        "--export", "--epochs", "30", "--learning-rate", "0.005", "--dropout", "0",
        "--max-seq-length", "16", "--batch-size", "8",
    ]  # fmt: skip
    assert main(command) == 0
    config = json.loads((output / "model" / "config.json").read_text("utf-8"))
    assert (config["problem_type"], config["labels"]) == ("multi_label_classification", ["物流", "质量"])
    figures = json.loads((output / "results.json").read_text("utf-8"))["runs"][0]["figures"]["dev"]
    assert figures["micro_f1"] > 0.7
    assert "Labels on dev" in (output / "report.html").read_text("utf-8")
    bundle = open_bundle(tmp_path / "models" / "topics" / "1")
    assert (bundle.manifest.scores, bundle.manifest.labels) == ("sigmoid", ["物流", "质量"])
    ids = np.array([[1, *[TOKENS.index(character) for character in "快递慢房间脏"], 2]])
    inputs = {"input_ids": ids, "token_type_ids": np.zeros_like(ids)}
    (served,) = onnx_runner(bundle.graph("onnx")[0], ["logits"])(inputs)
    with paddle.no_grad():
        eager = paddle.nn.functional.sigmoid(load_model(output / "model")(*map(paddle.to_tensor, inputs.values())))
    np.testing.assert_allclose(1 / (1 + np.exp(-served)), eager.numpy(), atol=1e-5)
    evaluate = ["finetune", "--do-eval", "--dev", str(data), "--output", str(output)]
    assert main(evaluate) == 0
