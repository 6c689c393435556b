"""The commands of `ernie-train`, run as a user runs them, on a corpus of a few sentences."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from model_build.bundle import find_bundles, verify_bundle
from training import cli

SENTENCES = ("今天天气很好，我们去公园散步。", "这家酒店的房间很干净，服务也好。", "北京是中国的首都，人口很多。")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    (root / "corpus").mkdir()
    documents = [f"第{number}篇。{SENTENCES[number % 3]}{SENTENCES[number % 2]}" for number in range(600)]
    (root / "corpus" / "text.txt").write_text("\n\n".join(documents), encoding="utf-8")
    reviews = root / "classification" / "chnsenticorp"
    reviews.mkdir(parents=True)
    for part, start in (("train", 0), ("dev", 40), ("test", 50)):
        rows = [
            f"{number % 2}\t第{number}条：{'很好' if number % 2 else '太差'}" for number in range(start, start + 40)
        ]
        (reviews / f"{part}.tsv").write_text("\n".join(["label\ttext_a", *rows]), encoding="utf-8")
    return root


def test_help_teaches_and_does_not_wait_for_paddle() -> None:
    script = "import sys; from training import cli\ntry: cli.main(['pretrain', '--help'])\n"
    script += "except SystemExit: assert 'paddle' not in sys.modules"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "example: ernie-train pretrain --corpus" in shown
    assert "--mask-probability" in shown
    assert "(default: 8000)" in shown


def test_the_demo_command_goes_from_text_to_two_verified_bundles(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["demo", "--data", str(data), "--output", str(tmp_path / "work"), "--models", str(tmp_path / "models")]
    assert cli.main([*command, "--steps", "3"]) == 0
    bundles = {bundle.manifest.name: bundle for bundle in find_bundles(tmp_path / "models")}
    assert set(bundles) == {"masked-lm", "sentiment"}
    for bundle in bundles.values():
        verify_bundle(bundle)
    figures = bundles["masked-lm"].manifest.evaluation["held_out"]
    assert set(figures) == {"token_64", "word_64", "token_256", "word_256"}
    assert bundles["sentiment"].manifest.labels == ["negative", "positive"]
    evaluation = bundles["sentiment"].manifest.evaluation
    assert evaluation["test"]["examples"] == 40
    assert evaluation["test_not_in_train"]["examples"] == 40
    assert (tmp_path / "work" / "masked-lm-loss.png").stat().st_size > 1000
    assert "sentiment version 1" in capsys.readouterr().out

    weights = tmp_path / "work" / "masked-lm" / "model_state.pdparams"
    before = weights.stat().st_mtime_ns
    assert cli.main([*command, "--steps", "3"]) == 0
    assert weights.stat().st_mtime_ns == before, "the same pretraining must not be done twice"
    assert {bundle.manifest.version for bundle in find_bundles(tmp_path / "models")} == {"2"}


def test_vocab_pretrain_and_finetune_work_apart(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus, vocab, reviews = str(data / "corpus" / "text.txt"), str(tmp_path / "vocab.txt"), data / "classification"
    assert cli.main(["vocab", "build", corpus, "--size", "200", "--output", vocab]) == 0
    shape = ["--hidden-size", "16", "--num-hidden-layers", "1", "--num-attention-heads", "2"]
    small = ["--steps", "3", "--batch-size", "4", "--max-seq-length", "32", "--short-seq-length", "16"]
    output = str(tmp_path / "lm")
    assert cli.main(["pretrain", "--corpus", corpus, "--vocab", vocab, "--output", output, *shape, *small]) == 0
    files = [
        value for part in ("train", "dev") for value in (f"--{part}", str(reviews / "chnsenticorp" / f"{part}.tsv"))
    ]
    finetuned = str(tmp_path / "reviews")
    assert cli.main(["finetune", "--pretrained", output, *files, "--output", finetuned, "--epochs", "1"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["dev"]["examples"] == 40


def test_overlap_prints_the_count(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reviews = data / "classification" / "chnsenticorp"
    assert cli.main(["overlap", "--training", str(reviews / "dev.tsv"), "--evaluation", str(reviews / "test.tsv")]) == 0
    assert "30 of 40 evaluation texts stand in the training text" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["vocab", "build", "absent.txt", "--output", "v.txt"], "absent.txt"),
        (["pretrain", "--corpus", "{corpus}", "--vocab", "absent.txt", "--output", "o"], "absent.txt"),
        (["demo", "--data", "{data}", "--steps", "0"], "--steps and --batch-size must be at least 1"),
    ],
)
def test_bad_input_is_one_sentence_and_status_two(
    data: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [value.format(corpus=data / "corpus" / "text.txt", data=data) for value in arguments]
    assert cli.main(filled) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("ernie-train: ")
    assert sentence in message
