"""`ernie-train finetune` from files to a bundle: seeds, grid, flags of a file, three tasks, and bad data."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from paddlenlp import transformers as published

from model_build.bundle import BundleError, find_bundles, open_bundle, verify_bundle
from model_build.checkpoint import load_model, read_checkpoint
from service.tasks import SERVED_TASKS
from tests.training.test_finetune import BAD, CONFIG, GOOD, VOCAB
from training import cli

SMALL = ["--epochs", "2", "--batch-size", "8", "--max-seq-length", "32", "--learning-rate", "0.003"]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny checkpoint as PaddleNLP writes it, with its vocabulary."""
    folder = tmp_path_factory.mktemp("published")
    published.ErnieModel(published.ErnieConfig(**CONFIG.to_dict())).save_pretrained(str(folder))
    (folder / "vocab.txt").write_bytes(VOCAB.read_bytes())
    return str(folder)


def texts(path: Path, first: int, count: int) -> str:
    rng = np.random.default_rng(first)
    lines = ["label\ttext_a"]
    for number in range(first, first + count):
        phrases = GOOD if number % 2 else BAD
        lines.append(f"{number % 2}\t{'，'.join(rng.choice(phrases, 2))}，第{number}条。")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def tagged(path: Path, count: int) -> str:
    path.write_text("在 O\n北 B-LOC\n京 E-LOC\n\n去 O\n沪 S-LOC\n。 O\n\n" * count, encoding="utf-8")
    return str(path)


def questions(path: Path, count: int) -> str:
    def paragraph(number: int) -> dict[str, object]:
        context = f"第{number}个城市是哈尔滨，它在北方。"
        answer = {"text": "哈尔滨", "answer_start": context.index("哈")}
        return {"context": context, "qas": [{"id": f"q{number}", "question": "哪个城市？", "answers": [answer]}]}

    data = {"version": "1.1", "data": [{"paragraphs": [paragraph(number) for number in range(count)]}]}
    path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    return str(path)


def reviews(folder: Path) -> list[str]:
    parts = (("train", 0, 64), ("dev", 1000, 20), ("test", 1010, 20))
    return [word for part, first, count in parts
            for word in (f"--{part}", texts(folder / f"{part}.tsv", first, count))]  # fmt: skip


def finetune(start: str, output: Path, *arguments: str) -> int:
    return cli.main(["finetune", "--pretrained", start, "--output", str(output), *SMALL, *arguments])


def test_seeds_are_runs_of_their_own_with_mean_and_spread(
    start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    output = tmp_path / "out"
    assert finetune(start, output, *reviews(tmp_path), "--seeds", "1", "2", "3") == 0
    results = json.loads((output / "results.json").read_text(encoding="utf-8"))
    assert [run["seed"] for run in results["runs"]] == [1, 2, 3]
    accuracies = [run["figures"]["test"]["accuracy"] for run in results["runs"]]
    assert results["figures"]["test"]["accuracy"]["mean"] == pytest.approx(np.mean(accuracies))
    assert results["figures"]["test"]["accuracy"]["standard_deviation"] == pytest.approx(np.std(accuracies, ddof=1))
    best = max(results["runs"], key=lambda run: run["figures"]["dev"]["accuracy"])
    about = read_checkpoint(output / "model")
    assert about.provenance["finetuning"]["seed"] == best["seed"]
    assert about.evaluation["test"]["accuracy"] == best["figures"]["test"]["accuracy"]
    printed = json.loads(capsys.readouterr().out)
    assert printed["test"]["accuracy"] == about.evaluation["test"]["accuracy"]
    assert (output / "report.html").is_file()


def test_copies_of_training_texts_are_told_and_counted_apart(
    start: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = reviews(tmp_path)
    train, test = (Path(files[index]) for index in (1, 5))
    test.write_text(test.read_text("utf-8") + "\n".join(train.read_text("utf-8").split("\n")[1:6]), encoding="utf-8")
    assert finetune(start, tmp_path / "out", *files) == 0
    assert "5 of the 25 test examples stand in train too" in caplog.text
    figures = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))["runs"][0]["figures"]
    assert (figures["test"]["examples"], figures["test"]["in_train"]) == (25, 5)
    assert figures["test_not_in_train"]["examples"] == 20


def test_the_grid_takes_what_is_best_on_dev(start: str, tmp_path: Path) -> None:
    rates = ["--learning-rates", "0.003", "0.0000001", "--batch-sizes", "8", "16"]
    assert finetune(start, tmp_path / "out", *reviews(tmp_path), *rates) == 0
    runs = {path.name for path in (tmp_path / "out" / "runs").iterdir()}
    assert runs == {f"lr-{rate}-batch-{size}-seed-1" for rate in ("0.003", "1e-07") for size in (8, 16)}
    assert read_checkpoint(tmp_path / "out" / "model").provenance["finetuning"]["learning_rate"] == 0.003


def test_flags_of_a_file_give_way_to_the_command_line_and_what_took_effect_is_written(
    start: str, tmp_path: Path
) -> None:
    config = tmp_path / "flags.yaml"
    config.write_text("learning_rate: 0.5\nbatch-size: 4\nseeds: [7, 8]\nclass_weights: balanced\n", encoding="utf-8")
    command = ["finetune", "--pretrained", start, "--output", str(tmp_path / "out"), *reviews(tmp_path)]
    assert cli.main([*command, "--config", str(config), "--learning-rate", "0.002", "--max-seq-length", "32"]) == 0
    settings = yaml.safe_load((tmp_path / "out" / "settings.yaml").read_text(encoding="utf-8"))
    assert (settings["learning_rate"], settings["batch_size"], settings["seeds"]) == (0.002, 4, [7, 8])
    assert read_checkpoint(tmp_path / "out" / "model").provenance["finetuning"]["class_weights"] == "balanced"
    again = ["finetune", "--config", str(tmp_path / "out" / "settings.yaml")]
    before = (tmp_path / "out" / "results.json").read_bytes()
    assert cli.main(again) == 0
    assert (tmp_path / "out" / "results.json").read_bytes() == before


def test_evaluation_and_prediction_alone_use_the_model_that_is_there(
    start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, output = reviews(tmp_path), tmp_path / "out"
    assert finetune(start, output, *files, "--do-eval") == 2
    assert "is missing" in capsys.readouterr().err
    assert finetune(start, output, *files, "--do-train") == 0
    assert not capsys.readouterr().out
    (output / "predictions" / "test.jsonl").unlink()
    weights = (output / "model" / "model_state.pdparams").read_bytes()
    assert finetune(start, output, *files, "--do-eval", "--do-predict") == 0
    figures = json.loads(capsys.readouterr().out)
    predicted = [json.loads(line) for line in (output / "predictions" / "test.jsonl").read_text("utf-8").splitlines()]
    gold = [line[0] for line in Path(files[5]).read_text("utf-8").splitlines()[1:]]
    right = [each["label"] == label for each, label in zip(predicted, gold, strict=True)]
    assert figures["test"]["accuracy"] == np.mean(right)
    assert (output / "model" / "model_state.pdparams").read_bytes() == weights


def test_from_scratch_takes_the_shape_alone(start: str, tmp_path: Path) -> None:
    assert finetune(start, tmp_path / "out", *reviews(tmp_path), "--from-scratch", "--epochs", "1") == 0
    about = read_checkpoint(tmp_path / "out" / "model")
    assert about.provenance["pretrained"]["from_scratch"] is True
    assert about.config.hidden_size == CONFIG.hidden_size


@pytest.mark.parametrize("task", ["classify", "token-classification", "question-answering"])
def test_every_task_gives_a_bundle_that_verifies(start: str, tmp_path: Path, task: str) -> None:
    files = {
        "classify": reviews(tmp_path),
        "token-classification": [
            "--train", tagged(tmp_path / "train.txt", 30), "--dev", tagged(tmp_path / "dev.txt", 5)
        ],
        "question-answering": [
            "--train", questions(tmp_path / "train.json", 60), "--dev", questions(tmp_path / "dev.json", 10)
        ],
    }[task]  # fmt: skip
    models = tmp_path / "models"
    command = [
        "--task",
        task,
        *files,
        "--export",
        "--models",
        str(models),
        "--name",
        "mine",
        "--epochs",
        "10",
        "--learning-rate",
        "0.01",
    ]
    assert finetune(start, tmp_path / "out", *command) == 0
    bundle = open_bundle(models / "mine" / "1")
    verify_bundle(bundle)
    assert bundle.manifest.task == task
    assert all(graph.parity_max_abs_error < 1e-4 for graph in bundle.manifest.graphs.values())
    shapes = [(each.name, len(each.shape)) for each in bundle.manifest.outputs]
    assert (
        shapes
        == {
            "classify": [("logits", 2)],
            "token-classification": [("logits", 3)],
            "question-answering": [("start_logits", 2), ("end_logits", 2)],
        }[task]
    )
    metric = {"classify": "accuracy"}.get(task, "f1")
    assert bundle.manifest.evaluation["dev"][metric] > 0.9
    assert load_model(tmp_path / "out" / "model").training is False
    if task not in SERVED_TASKS:
        with pytest.raises(BundleError, match=f"the bundle is for {task}, not for classify or fill-mask"):
            find_bundles(models, SERVED_TASKS)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("label\tcontent\n1\t好\n", "line 1 must name the columns label and text_a"),
        ("label\ttext_a\n1\t好\n0\n", "line 3 has 1 fields, but the header names 2"),
        ("label\ttext_a\n1\t好\n\t坏\n", "line 3 has an empty label"),
        ("label\ttext_a\n", "no example below the header"),
        ("label\ttext_a\n1\t好\n1\t很好\n", "have 1 label, 1, but a classifier needs two or more"),
    ],
    ids=["no column", "a field short", "an empty label", "an empty file", "one class"],
)
def test_bad_training_data_is_one_sentence(
    start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, sentence: str
) -> None:
    files = reviews(tmp_path)
    Path(files[1]).write_text(content, encoding="utf-8")
    assert finetune(start, tmp_path / "out", *files) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert files[1] in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "out" / "model").exists()


def test_a_label_that_train_has_not_is_named_with_its_line(
    start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = reviews(tmp_path)
    path = Path(files[5])
    path.write_text(path.read_text("utf-8") + "2\t不好不坏\n", encoding="utf-8")
    assert finetune(start, tmp_path / "out", *files) == 2
    assert f"{path}: line 22: label '2' is none of the 2 that train has" in capsys.readouterr().err


def test_texts_longer_than_the_model_are_cut_and_a_length_beyond_its_positions_is_refused(
    start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = reviews(tmp_path)
    train = Path(files[1])
    train.write_text(train.read_text("utf-8") + f"1\t{'非常喜欢' * 500}\n", encoding="utf-8")
    assert finetune(start, tmp_path / "out", *files, "--max-seq-length", "65") == 2
    assert "--max-seq-length 65 is longer than the 64 positions" in capsys.readouterr().err
    assert finetune(start, tmp_path / "out", *files, "--max-seq-length", "64", "--epochs", "1") == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--dataset", "nothing"], "'nothing' is no data set known by name; there are chnsenticorp"),
        (["--dataset", "chnsenticorp", "--data", "absent"], "put train.tsv, dev.tsv, test.tsv into absent"),
        (["--dataset", "tnews", "--train", "x.tsv"], "give the examples either as --dataset NAME or as --train"),
        ([], "give the examples either as --dataset NAME or as --train"),
        (["--train", "x.tsv"], "x.tsv"),
    ],
)
def test_examples_that_are_not_there_are_told(
    start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert finetune(start, tmp_path / "out", *arguments) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pretrained", "sentence"),
    [
        ("ernie-9.9", "'ernie-9.9' is neither a folder"),
        ("ernie-3.0-nano-zh", "the vocabulary of ernie-3.0-nano-zh is not known here; give its vocab.txt with --vocab"),
    ],
)
def test_a_start_that_is_not_there_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pretrained: str, sentence: str
) -> None:
    assert finetune(pretrained, tmp_path / "out", *reviews(tmp_path)) == 2
    assert sentence in capsys.readouterr().err


def test_a_seed_named_twice_is_told(start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert finetune(start, tmp_path / "out", *reviews(tmp_path), "--seeds", "1", "2", "1") == 2
    assert "--seeds 1 2 1 names a seed twice" in capsys.readouterr().err


def test_a_metric_that_the_task_has_not_is_told(start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert finetune(start, tmp_path / "out", *reviews(tmp_path), "--metric", "bleu") == 2
    assert "--metric bleu is none of classify's: accuracy, macro_f1" in capsys.readouterr().err
