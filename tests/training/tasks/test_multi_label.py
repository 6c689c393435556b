"""Multi-label data: files in every format, metrics, and a model trained, exported, served and compared."""

import json
import shutil
from pathlib import Path

import httpx
import numpy as np
import paddle
import pytest
from paddlenlp import Taskflow

from model_build.bundle import open_bundle
from model_build.checkpoint import load_model, read_checkpoint
from model_build.config import ErnieConfig
from model_build.runners import onnx_runner
from tests.service.conftest import serving
from training.cli.__main__ import main
from training.cli.ernie_build import main as build
from training.datasets.examples import Example, MultiLabelExample
from training.datasets.multi_label import read_multi_label
from training.distilling.losses import averaged_log_probabilities, soft_losses
from training.tasks.metrics import best_threshold, multi_label_scores
from training.tasks.multi_label import MultiLabelClassification
from training.tasks.task import TaskBatch
from training.tasks.tokenizer import Tokenizer

TEXTS = {"快递太慢": "物流", "房间不错": "质量", "快递慢房间脏": "物流,质量", "今天天气": ""}
CHARACTERS = "".join(TEXTS)
TOKENS = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]", *dict.fromkeys(CHARACTERS)]


TRAINING = ["--learning-rate", "0.005", "--dropout", "0", "--max-seq-length", "16", "--batch-size", "8"]


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


@pytest.fixture(scope="module")
def topics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.tsv, the shape start/, the output topics/ of finetuning, and its bundle in models/."""
    folder = tmp_path_factory.mktemp("topics")
    data = str(table(folder / "train.tsv"))
    command = [
        "finetune", "--pretrained", str(start(folder / "start")), "--from-scratch", "--multi-label",
        "--train", data, "--dev", data, "--output", str(folder / "topics"), "--models", str(folder / "models"),
        "--export", "--epochs", "30", *TRAINING,
    ]  # fmt: skip
    assert main(command) == 0
    return folder


def probabilities(model: Path, text: str) -> np.ndarray:
    """float32 [labels] of a checkpoint, in eager mode."""
    ids = paddle.to_tensor([[1, *map(TOKENS.index, text), 2]])
    with paddle.no_grad():
        return paddle.nn.functional.sigmoid(load_model(model)(ids)).numpy()[0]


def test_a_model_is_trained_and_exported_and_its_probabilities_are_those_of_eager_mode(topics: Path) -> None:
    output = topics / "topics"
    config = json.loads((output / "model" / "config.json").read_text("utf-8"))
    assert (config["problem_type"], config["labels"]) == ("multi_label_classification", ["物流", "质量"])
    figures = json.loads((output / "results.json").read_text("utf-8"))["runs"][0]["figures"]["dev"]
    assert figures["micro_f1"] > 0.7
    assert "Labels on dev" in (output / "report.html").read_text("utf-8")
    bundle = open_bundle(topics / "models" / "topics" / "1")
    assert (bundle.manifest.scores, bundle.manifest.labels) == ("sigmoid", ["物流", "质量"])
    ids = np.array([[1, *map(TOKENS.index, "快递慢房间脏"), 2]])
    (logits,) = onnx_runner(bundle.graph("onnx")[0], ["logits"])({"input_ids": ids, "token_type_ids": 0 * ids})
    np.testing.assert_allclose(1 / (1 + np.exp(-logits[0])), probabilities(output / "model", "快递慢房间脏"), atol=1e-5)
    assert main(["finetune", "--do-eval", "--dev", str(topics / "train.tsv"), "--output", str(output)]) == 0


def test_the_service_answers_the_probabilities_of_eager_mode_and_the_scores_of_taskflow(
    topics: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paddlenlp.taskflow.task.download_check", lambda _: None)  # it reports the use to a server
    with serving(topics / "models") as service:
        service.wait_ready()
        results = httpx.post(f"{service.url}/classify", json={"inputs": list(TEXTS)}).json()["results"]
    served = [{each["label"]: each["score"] for each in result["labels"]} for result in results]
    for text, scores in zip(TEXTS, served, strict=True):
        eager = dict(zip(["物流", "质量"], probabilities(topics / "topics" / "model", text).tolist(), strict=True))
        assert scores == pytest.approx(eager, abs=1e-5)
    shutil.copytree(topics / "topics" / "model", tmp_path / "model")
    flow = Taskflow(
        "text_classification", task_path=str(tmp_path / "model"), is_static_model=False, problem_type="multi_label"
    )
    for found, scores in zip(flow(list(TEXTS)), served, strict=True):
        above = {label: score for label, score in scores.items() if score > 0.5}
        assert {each["label"]: each["score"] for each in found["predictions"]} == pytest.approx(above, abs=1e-5)


def test_a_multi_label_bundle_is_quantised_and_pruned(topics: Path, tmp_path: Path) -> None:
    data = str(topics / "train.tsv")
    shared = ["--dev", data, "--max-drop", "100", "--models", str(tmp_path)]
    quantise = ["quantize", str(topics / "models" / "topics" / "1"), "--train", data, "--name", "q", *shared]
    assert build(quantise) == 0
    assert build(["prune-vocab", str(topics / "topics" / "model"), "--text", data, "--name", "p", *shared]) == 0
    for name in "qp":
        manifest = open_bundle(tmp_path / name / "1").manifest
        assert manifest.scores == "sigmoid"
        assert "micro_f1" in json.dumps(manifest.evaluation)


def test_a_student_learns_from_the_probabilities_of_a_multi_label_teacher(topics: Path, tmp_path: Path) -> None:
    (tmp_path / "unlabelled.txt").write_text("快递慢\n房间脏\n今天不错\n", encoding="utf-8")
    command = [
        "distill", "--teacher", str(topics / "topics" / "model"), "--pretrained", str(topics / "start"),
        "--from-scratch", "--multi-label", "--train", str(topics / "train.tsv"), "--dev", str(topics / "train.tsv"),
        "--unlabelled", str(tmp_path / "unlabelled.txt"), "--output", str(tmp_path / "o"), "--hard-weight", "0",
        "--relations-weight", "0", "--epochs", "20", *TRAINING,
    ]  # fmt: skip
    assert main(command) == 0
    figures = json.loads((tmp_path / "o" / "results.json").read_text("utf-8"))["runs"][0]["figures"]["dev"]
    assert figures["micro_f1"] > 0.7
    assert read_checkpoint(tmp_path / "o" / "model").scores == "sigmoid"


def test_the_loss_on_a_teacher_is_the_binary_cross_entropy_less_the_entropy_of_the_teacher(topics: Path) -> None:
    task = MultiLabelClassification(Tokenizer(topics / "start" / "vocab.txt"), ["物流", "质量"], 16)
    batch = TaskBatch.of(task.rows([example("物流", "快递太慢"), Example("", "房间不错")]), 0)
    student, teacher = paddle.to_tensor([[2.0, -1.0], [0.5, 3.0]]), paddle.to_tensor([[1.0, 0.0], [-4.0, 2.0]])
    ours, theirs = (task.distributions((each,), batch).logits for each in (student, teacher))
    loss = paddle.mean(soft_losses(ours, averaged_log_probabilities([theirs], 1.0), 1.0)).item()
    wanted = paddle.nn.functional.sigmoid(teacher)
    cross, entropy = (
        paddle.nn.functional.binary_cross_entropy_with_logits(each, wanted).item() for each in (student, teacher)
    )
    assert loss == pytest.approx(cross - entropy, abs=1e-6)


def test_the_loss_of_a_batch_leaves_out_unlabelled_texts(topics: Path) -> None:
    task = MultiLabelClassification(Tokenizer(topics / "start" / "vocab.txt"), ["物流", "质量"], 16)
    rows = task.rows([example("物流", "快递太慢"), Example("", "房间不错")])
    logits = paddle.to_tensor([[2.0, -1.0], [5.0, 5.0]])
    both = task.loss_of((logits,), TaskBatch.of(rows, 0)).item()
    assert both == pytest.approx(task.loss_of((logits[:1],), TaskBatch.of(rows[:1], 0)).item() / 2)


def test_teacher_and_examples_are_both_multi_label_or_neither(
    topics: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"{labels}\t{text}\n" for text, labels in list(TEXTS.items())[:2])
    (tmp_path / "single.tsv").write_text(f"label\ttext_a\n{rows}", encoding="utf-8")
    data = str(tmp_path / "single.tsv")
    command = [
        "distill", "--teacher", str(topics / "topics" / "model"), "--pretrained", str(topics / "start"),
        "--from-scratch", "--train", data, "--dev", data, "--output", str(tmp_path / "o"), *TRAINING,
    ]  # fmt: skip
    assert main(command) == 2
    assert "model is multi-label; give --multi-label if teacher and examples both are" in capsys.readouterr().err
