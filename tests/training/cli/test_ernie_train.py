"""The commands of `ernie-train`, run as a user runs them, on a corpus of a few sentences."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from model_build.bundle import find_bundles, verify_bundle
from training.cli import ernie_train as cli

PRETRAIN = ("pretrain", "--corpus", "c", "--vocab", "v", "--output", "o")
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
    script = "import sys; from training.cli import ernie_train as cli\ntry: cli.main(['pretrain', '--help'])\n"
    script += "except SystemExit: assert 'paddle' not in sys.modules"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "example: ernie-train pretrain --corpus" in shown
    assert "--masked-lm-prob" in shown
    assert "(default: 100000)" in shown


def test_the_demo_command_goes_from_text_to_two_verified_bundles(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = tmp_path / "work"
    command = ["demo", "--data", str(data), "--output", str(work), "--models", str(tmp_path / "models")]
    assert cli.main([*command, "--share", "0.0002"]) == 0
    bundles = {bundle.manifest.name: bundle for bundle in find_bundles(tmp_path / "models")}
    assert set(bundles) == {"masked-lm", "sentiment"}
    for bundle in bundles.values():
        verify_bundle(bundle)
    figures = bundles["masked-lm"].manifest.evaluation["validation"]
    assert figures["word/tokens"] > 0
    assert 0 <= figures["character/top1"] <= figures["character/top5"] <= 1
    overlap = bundles["masked-lm"].manifest.provenance["overlap"]
    assert overlap == {f"chnsenticorp/{name}.tsv": {"texts": 40, "in_corpora": 0} for name in ("dev", "test")}
    assert bundles["sentiment"].manifest.labels == ["negative", "positive"]
    evaluation = bundles["sentiment"].manifest.evaluation
    assert evaluation["test"]["examples"] == 40
    assert evaluation["test"]["in_train"] == 0
    assert "sentiment version 1" in capsys.readouterr().out

    checkpoints = sorted(work.glob("*/checkpoints/step-*"))
    before = [(path, path.stat().st_mtime_ns) for path in checkpoints]
    assert len(before) == 2
    assert cli.main([*command, "--share", "0.0002"]) == 0
    assert [(path, path.stat().st_mtime_ns) for path in checkpoints] == before, "no step must be done twice"
    assert {bundle.manifest.version for bundle in find_bundles(tmp_path / "models")} == {"2"}


def test_evaluation_texts_are_kept_out_of_the_embedded_models_corpora(data: Path, tmp_path: Path) -> None:
    from training.datasets.table import read_examples
    from training.demo import build_data, read_reviews

    reviews, evaluation = read_reviews(data)
    leaked = read_examples(evaluation[0])[0].text
    corpus = tmp_path / "data" / "corpus"
    corpus.mkdir(parents=True)
    (corpus / "leaky.txt").write_text(f"{leaked}\n\n{SENTENCES[0]}{SENTENCES[1]}\n\n{SENTENCES[2]}", encoding="utf-8")
    build_data(tmp_path / "data", reviews, tmp_path / "work")
    kept = (tmp_path / "work" / "text" / "leaky.txt").read_text(encoding="utf-8")
    assert leaked not in kept
    assert SENTENCES[2] in kept


def test_vocab_corpus_pretrain_and_finetune_work_apart(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    text, vocab, reviews = str(data / "corpus" / "text.txt"), str(tmp_path / "vocab.txt"), data / "classification"
    corpus, output = str(tmp_path / "corpus"), str(tmp_path / "lm")
    assert cli.main(["vocab", "build", text, "--size", "200", "--output", vocab]) == 0
    assert cli.main(["corpus", "build", text, "--vocab", vocab, "--output", corpus, "--workers", "1"]) == 0
    shape = ["--hidden-size", "16", "--num-hidden-layers", "1", "--num-attention-heads", "2"]
    small = ["--steps", "3", "--batch-size", "4", "--max-seq-length", "32", "--evaluation-samples", "8"]
    leaky = tmp_path / "evaluation.txt"
    leaky.write_text(f"第0篇。{SENTENCES[0]}{SENTENCES[0]}\n\n没有这一篇", encoding="utf-8")
    command = ["pretrain", "--corpus", corpus, "--vocab", vocab, "--output", output, *shape, *small]
    assert cli.main([*command, "--evaluation", str(leaky)]) == 0
    assert f"1 of the 2 texts of {leaky} occur in the corpora" in caplog.text
    files = [
        value for part in ("train", "dev") for value in (f"--{part}", str(reviews / "chnsenticorp" / f"{part}.tsv"))
    ]
    finetuned = str(tmp_path / "reviews")
    model = str(tmp_path / "lm" / "model")
    assert cli.main(["finetune", "--pretrained", model, *files, "--output", finetuned, "--epochs", "1"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["dev"]["examples"] == 40


def test_overlap_reads_corpora_too(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, vocab, corpus = data / "corpus" / "text.txt", str(tmp_path / "vocab.txt"), str(tmp_path / "corpus")
    cli.main(["vocab", "build", str(text), "--size", "200", "--output", vocab])
    cli.main(["corpus", "build", str(text), "--vocab", vocab, "--output", corpus, "--workers", "1"])
    evaluation = tmp_path / "evaluation.txt"
    # Other punctuation and other width are the same text.
    evaluation.write_text(f"第３篇 {SENTENCES[0]}，{SENTENCES[1]}\n\n不在里面", encoding="utf-8")
    command = ["overlap", "--training", corpus, "--evaluation", str(evaluation)]
    assert cli.main([*command, "--vocab", vocab]) == 0
    assert "1 of 2 evaluation texts occur in the training text" in capsys.readouterr().out
    assert cli.main(command) == 2
    assert "is not a file, so it is read as a corpus; give its vocabulary with --vocab" in capsys.readouterr().err


def test_overlap_prints_the_count(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reviews = data / "classification" / "chnsenticorp"
    assert cli.main(["overlap", "--training", str(reviews / "dev.tsv"), "--evaluation", str(reviews / "test.tsv")]) == 0
    assert "30 of 40 evaluation texts occur in the training text" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["vocab", "build", "absent.txt", "--output", "v.txt"], "absent.txt"),
        (["pretrain", "--corpus", "absent", "--vocab", "absent.txt", "--output", "o"], "absent.txt"),
        (
            ["pretrain", "--corpus", "c", "--vocab", "v", "--output", "o", "--masking", "syllable"],
            "'syllable' is neither a unit",
        ),
        (["pretrain", "--corpus", "c", "--vocab", "v", "--output", "o", "--steps", "0"], "must be at least 1"),
        (
            ["pretrain", "--corpus", "c", "--vocab", "v", "--output", "o", "--min-learning-rate", "1"],
            "must be between",
        ),
        (["pretrain", "--corpus", "c", "--vocab", "v", "--output", "o", "--start", "ernie-9"], "nor a published model"),
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
