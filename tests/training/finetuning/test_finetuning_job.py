"""`ernie-train finetune` from files to a bundle: seeds, grid, flags of a file, three tasks, and bad data."""

import gc
import json
import os
import signal
import weakref
from pathlib import Path

import numpy as np
import pytest
import yaml
from paddlenlp import transformers as published

from model_build.bundle import BundleError, find_bundles, open_bundle, verify_bundle
from model_build.checkpoint import load_model, read_checkpoint
from service.endpoints import SERVED_TASKS
from tests.training.finetuning.test_finetuning_loop import BAD, CONFIG, GOOD, VOCAB
from training.cli import ernie_train as cli
from training.datasets.table import read_examples
from training.finetuning import job as finetune_job
from training.finetuning.evaluation import task_of_model
from training.finetuning.job import FinetuneJob, run_job
from training.finetuning.loop import Finetuned, FinetuneRun
from training.finetuning.settings import FinetuneSettings
from training.finetuning.starting_point import starting_point
from training.tasks.classification import Classification
from training.tasks.question_answering import QuestionAnswering
from training.tasks.task import TaskBatch

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
    assert "5 of the 25 test examples also occur in train" in caplog.text
    figures = json.loads((tmp_path / "out" / "results.json").read_text("utf-8"))["runs"][0]["figures"]
    assert (figures["test"]["examples"], figures["test"]["in_train"]) == (25, 5)
    assert figures["test_not_in_train"]["examples"] == 20


def test_examples_that_the_vocabulary_does_not_fit_are_told_in_training_and_in_evaluation(
    start: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = reviews(tmp_path)
    told = "% of the tokens of the test examples are unknown to the vocabulary"
    assert finetune(start, tmp_path / "out", *files) == 0
    assert told not in caplog.text
    Path(files[5]).write_text("label\ttext_a\n1\t㊣㊣㊣㊣\n0\t㊣㊣㊣㊣\n", encoding="utf-8")
    evaluate = [word for word in files if word != files[3]][-2:]
    assert finetune(start, tmp_path / "out", "--do-eval", *evaluate) == 0
    assert f"100.0 {told}" in caplog.text


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
    assert "weights" not in about.provenance["pretrained"]
    assert starting_point(start, from_scratch=True).weights is None
    # The start's weights do not matter, so broken ones do not either.
    (Path(start) / "model_state.pdparams").rename(tmp_path / "away")
    try:
        assert finetune(start, tmp_path / "again", *reviews(tmp_path), "--from-scratch", "--epochs", "1") == 0
    finally:
        (tmp_path / "away").rename(Path(start) / "model_state.pdparams")
    first, again = (load_model(tmp_path / name / "model").state_dict() for name in ("out", "again"))
    assert all(np.array_equal(first[name].numpy(), again[name].numpy()) for name in first)


def test_entities_of_iob1_are_counted_as_iob1_in_training_and_alone(
    start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentences = "在 O\n北 I-LOC\n京 I-LOC\n\n李 I-PER\n王 B-PER\n走 O\n\n去 O\n沪 I-LOC\n。 O\n\n"
    path, few, output = tmp_path / "tags.txt", tmp_path / "few.txt", tmp_path / "out"
    path.write_text(sentences * 20, encoding="utf-8")
    few.write_text("去 O\n沪 I-LOC\n。 O\n\n", encoding="utf-8")
    files = ["--train", str(path), "--dev", str(path), "--epochs", "10", "--learning-rate", "0.01"]
    assert finetune(start, output, "--task", "token-classification", *files) == 0
    results = json.loads((output / "results.json").read_text("utf-8"))
    assert results["scheme"] == "IOB1"
    assert results["runs"][0]["figures"]["dev"]["types"]["PER"]["entities"] == 40
    assert results["runs"][0]["figures"]["dev"]["f1"] == 1
    capsys.readouterr()
    assert cli.main(["finetune", "--output", str(output), "--do-eval", "--dev", str(path)]) == 0
    alone = json.loads(capsys.readouterr().out)["dev"]
    assert (alone["f1"], alone["precision"], alone["recall"]) == (1, 1, 1)
    assert cli.main(["finetune", "--output", str(output), "--do-eval", "--test", str(few)]) == 0
    assert json.loads(capsys.readouterr().out)["test"]["f1"] == 1


def test_evaluation_alone_takes_vocabulary_labels_and_lengths_of_the_model(
    start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, output = reviews(tmp_path), tmp_path / "out"
    examples = {part: read_examples(Path(files[index])) for part, index in (("train", 1), ("dev", 3))}
    settings = FinetuneSettings(epochs=2, batch_size=8, max_seq_length=8, learning_rate=3e-3)
    names = {"0": "negative", "1": "positive"}
    run_job(FinetuneJob("classify", examples, starting_point(start), settings, output, names=names))
    about = read_checkpoint(output / "model")
    assert (about.labels, about.provenance["labels"]) == (["negative", "positive"], ["0", "1"])
    assert about.max_length == 8
    trained = json.loads((output / "results.json").read_text("utf-8"))["runs"][0]["figures"]["dev"]
    predicted = (output / "predictions" / "dev.jsonl").read_bytes()
    (output / "predictions" / "dev.jsonl").unlink()
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    command = ["finetune", "--output", str(output), "--do-eval", "--do-predict"]
    # Neither --pretrained nor the train part; what the flags say of lengths is for training.
    assert cli.main([*command, "--dev", files[3], "--max-seq-length", "64"]) == 0
    alone = json.loads(capsys.readouterr().out)["dev"]
    assert "in_train" not in alone
    assert alone == {name: value for name, value in trained.items() if name in alone}
    assert (output / "predictions" / "dev.jsonl").read_bytes() == predicted
    assert {path: path.read_bytes() for path in before} == before
    assert not (output / "settings.yaml").exists()
    assert cli.main([*command, "--dev", files[3], "--train", files[1]]) == 0
    assert json.loads(capsys.readouterr().out)["dev"]["in_train"] == trained["in_train"]
    path = Path(files[5])
    path.write_text(path.read_text("utf-8") + "2\t不好不坏\n", encoding="utf-8")
    assert cli.main([*command, "--test", files[5]]) == 2
    assert f"{path}: line 22: label '2' is not among the 2 of {output / 'model'}" in capsys.readouterr().err
    assert cli.main([*command, "--train", files[1]]) == 2
    assert "there is nothing to evaluate; give examples with --dev or --test" in capsys.readouterr().err
    assert cli.main([*command, "--test", files[3], "--task", "token-classification"]) == 2


def test_evaluation_alone_reads_windows_as_training_did(
    start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    files = ["--train", questions(tmp_path / "train.json", 20), "--dev", questions(tmp_path / "dev.json", 6)]
    lengths = ["--max-seq-length", "20", "--doc-stride", "3", "--max-answer-length", "2"]
    assert finetune(start, output, "--task", "question-answering", *files, *lengths, "--epochs", "1") == 0
    task = task_of_model(output / "model", read_checkpoint(output / "model"))
    assert isinstance(task, QuestionAnswering)
    assert (task.max_seq_length, task.doc_stride, task.max_answer_length) == (20, 3, 2)
    predicted = (output / "predictions" / "dev.jsonl").read_bytes()
    assert cli.main(["finetune", "--output", str(output), "--do-predict", *files[2:]]) == 0
    assert (output / "predictions" / "dev.jsonl").read_bytes() == predicted


@pytest.mark.parametrize("arguments", [["--do-train"], []])
def test_training_without_train_examples_is_one_sentence(
    start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    files = reviews(tmp_path)
    assert finetune(start, tmp_path / "out", *files[4:], *arguments) == 2
    assert "there are no train examples; give them with --train" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_named_set_without_a_train_part_is_for_evaluation_alone(
    start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data" / "question_answering" / "drcd"
    folder.mkdir(parents=True)
    for name in ("DRCD_dev.json", "DRCD_test.json"):
        questions(folder / name, 4)
    output = tmp_path / "out"
    named = ["--dataset", "drcd", "--data", str(tmp_path / "data")]
    assert finetune(start, output, *named) == 2
    assert "there are no train examples" in capsys.readouterr().err
    files = ["--train", questions(tmp_path / "train.json", 20), "--dev", questions(tmp_path / "dev.json", 6)]
    assert finetune(start, output, "--task", "question-answering", *files, "--epochs", "1") == 0
    assert cli.main(["finetune", "--output", str(output), "--do-eval", *named]) == 0
    assert set(json.loads(capsys.readouterr().out.splitlines()[-1])) == {"dev", "test"}


def test_training_wants_to_know_where_it_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["finetune", "--output", str(tmp_path / "out"), *reviews(tmp_path)]) == 2
    assert "training needs --pretrained" in capsys.readouterr().err


def test_no_do_train_does_not_train(start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files, output = reviews(tmp_path), tmp_path / "out"
    assert finetune(start, output, *files, "--no-do-train") == 2
    assert "is missing; give a folder with config.json" in capsys.readouterr().err
    assert not output.exists()
    config = tmp_path / "flags.yaml"
    config.write_text("do_train: true\n", encoding="utf-8")
    assert finetune(start, output, *files, "--config", str(config)) == 0
    assert not capsys.readouterr().out
    config.write_text("do_train: false\n", encoding="utf-8")
    before = (output / "settings.yaml").read_bytes()
    assert finetune(start, output, *files, "--config", str(config), "--epochs", "9") == 0
    assert json.loads(capsys.readouterr().out)["test"]["examples"] == 20
    assert (output / "settings.yaml").read_bytes() == before
    assert finetune(start, output, *files, "--no-do-train", "--no-do-eval") == 2
    assert "there is nothing to do" in capsys.readouterr().err


def test_settings_are_those_of_the_result(start: str, tmp_path: Path) -> None:
    files, output = reviews(tmp_path), tmp_path / "out"
    assert finetune(start, output, *files) == 0
    before = (output / "settings.yaml").read_bytes()
    assert finetune(start, output, *files, "--weight-decay", "0.5") == 2  # does not fit the checkpoints
    assert (output / "settings.yaml").read_bytes() == before
    assert not list(output.glob(".*.writing"))


@pytest.mark.parametrize("step", [8, 16])
def test_a_job_that_is_stopped_in_the_last_step_of_a_run_does_not_begin_another(
    start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    seeds = ["--seeds", "1", "2", "--epochs", "1"]
    steps = 0
    loss = Classification.loss

    def stopping(self: Classification, model: object, batch: TaskBatch) -> object:
        nonlocal steps
        steps += 1
        if steps == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss(self, model, batch)

    output = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(Classification, "loss", stopping)
        assert finetune(start, output, *reviews(tmp_path), *seeds) == 130
    assert "stopped between two runs" in capsys.readouterr().err
    assert steps == step
    assert not (output / "results.json").exists()
    assert len(list((output / "runs").iterdir())) == step // 8
    assert finetune(start, output, *reviews(tmp_path), *seeds) == 0


def test_no_resume_refuses_runs_that_are_there_and_not_its_own(
    start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*reviews(tmp_path), "--no-resume", "--epochs", "1", "--batch-sizes", "8", "16"]
    assert finetune(start, tmp_path / "out", *command) == 0
    assert finetune(start, tmp_path / "out", *command, "--batch-sizes", "32") == 2
    assert "there are runs in" in capsys.readouterr().err
    assert not (tmp_path / "out" / "runs" / "lr-0.003-batch-32-seed-1").exists()


def test_models_of_other_seeds_than_the_best_are_let_go(
    start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: list[weakref.ref[object]] = []
    most = 0

    def counted(run: FinetuneRun) -> Finetuned:
        nonlocal most
        gc.collect()
        most = max(most, sum(model() is not None for model in models))
        done = finetuning(run)
        models.append(weakref.ref(done.model))
        return done

    finetuning = finetune_job.finetune
    monkeypatch.setattr(finetune_job, "finetune", counted)
    assert finetune(start, tmp_path / "out", *reviews(tmp_path), "--seeds", "1", "2", "3", "4", "--epochs", "1") == 0
    assert (len(models), most) == (4, 1)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"train": "在 O\n北 O\n\n", "dev": "沪 S-LOC\n\n"}, "train.txt: line 1: every tag is O"),
        ({"train": "沪 S-LOC\n\n", "dev": "在 O\n\n"}, "dev.txt: line 1: every tag of dev is O"),
    ],
)
def test_tags_that_are_all_o_are_told(
    start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], files: dict[str, str], sentence: str
) -> None:
    for part, content in files.items():
        (tmp_path / f"{part}.txt").write_text(content, encoding="utf-8")
    given = [word for part in files for word in (f"--{part}", str(tmp_path / f"{part}.txt"))]
    assert finetune(start, tmp_path / "out", "--task", "token-classification", *given) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_single_texts_and_pairs_do_not_go_together(
    start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = reviews(tmp_path)
    Path(files[3]).write_text("label\ttext_a\ttext_b\n1\t好\t很好\n", encoding="utf-8")
    assert finetune(start, tmp_path / "out", *files) == 2
    assert f"{files[3]}: line 2: dev has pairs, but train has single texts" in capsys.readouterr().err


def test_a_vocabulary_that_pads_otherwise_is_told(
    start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = VOCAB.read_text("utf-8").splitlines()
    tokens[0], tokens[9] = tokens[9], tokens[0]
    vocab = tmp_path / "vocab.txt"
    vocab.write_text("\n".join(tokens) + "\n", encoding="utf-8")
    assert finetune(start, tmp_path / "out", *reviews(tmp_path), "--vocab", str(vocab)) == 2
    assert f"{vocab} has [PAD] as token 9, but {start} pads with token 0" in capsys.readouterr().err


def test_tagged_sentences_without_their_task_are_told_to_say_it(
    start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finetune(start, tmp_path / "out", "--train", tagged(tmp_path / "train.txt", 3)) == 2
    assert "not a table of labelled texts (.tsv, .csv, .jsonl); give --task" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"epoch: 3\n", "epoch is not a flag of finetune"),
        (b"config: other.yaml\n", "config is not a flag of finetune"),
        (b"epochs: three\n", "epochs must be a whole number, not 'three'"),
        (b"epochs: true\n", "epochs must be a whole number, not True"),
        (b"epochs: [1, 2]\n", "epochs takes one value, not [1, 2]"),
        (b"seeds: [1, x]\n", "seeds must be a whole number, not 'x'"),
        (b"learning_rate: {a: 1}\n", "learning_rate must be a number, not {'a': 1}"),
        (b"precision: fp8\n", "precision must be one of fp32, bf16, fp16, not 'fp8'"),
        (b"do_eval: 1\n", "do_eval must be true or false, not 1"),
        ("name: 好".encode("gbk"), "is not UTF-8"),
        (b"- epochs\n", "must contain flags and their values"),
        (b"a: [\n", "is not YAML"),
    ],
)
def test_a_file_of_flags_that_cannot_be_is_one_sentence_that_names_it(
    start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, sentence: str
) -> None:
    config = tmp_path / "flags.yaml"
    config.write_bytes(content)
    assert finetune(start, tmp_path / "out", *reviews(tmp_path), "--config", str(config)) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert str(config) in error
    assert len(error.strip().splitlines()) == 1


def test_flags_are_not_abbreviated(start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        finetune(start, tmp_path / "out", *reviews(tmp_path), "--conf", "flags.yaml")
    assert "unrecognized arguments: --conf flags.yaml" in capsys.readouterr().err


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
        ("label\tcontent\n1\t好\n", "line 1 must have the columns label and text_a"),
        ("label\ttext_a\n1\t好\n0\n", "line 3 has 1 fields, but the header has 2"),
        ("label\ttext_a\n1\t好\n\t坏\n", "line 3 has an empty label"),
        ("label\ttext_a\n", "no example below the header"),
        ("label\ttext_a\n1\t好\n1\t很好\n", "have 1 label, 1, but a classifier needs at least two"),
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
    assert f"{path}: line 22: label '2' is not among the 2 of train" in capsys.readouterr().err


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
        (["--dataset", "nothing"], "'nothing' is not a known data set; known are chnsenticorp"),
        (["--dataset", "chnsenticorp", "--data", "absent"], "put train.tsv, dev.tsv, test.tsv into absent"),
        (
            ["--dataset", "tnews", "--train", "x.tsv"],
            "give the examples either by --dataset NAME or by the files --train",
        ),
        ([], "give the examples either by --dataset NAME or by the files --train"),
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
        ("ernie-9.9", "--pretrained 'ernie-9.9' is neither a folder"),
        (
            "ernie-3.0-nano-zh",
            "the published model ernie-3.0-nano-zh comes without vocabulary; give its vocab.txt with --vocab",
        ),
    ],
)
def test_a_start_that_is_not_there_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pretrained: str, sentence: str
) -> None:
    assert finetune(pretrained, tmp_path / "out", *reviews(tmp_path)) == 2
    assert sentence in capsys.readouterr().err


def test_a_start_without_its_shape_is_told_with_the_flag_of_finetuning(
    start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = f"{start}/model_state.pdparams"
    assert finetune(file, tmp_path / "out", *reviews(tmp_path)) == 2
    assert f"--pretrained {file} is a file, which does not contain the shape" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert finetune(str(tmp_path / "empty"), tmp_path / "out", *reviews(tmp_path)) == 2
    assert capsys.readouterr().err.endswith("empty has no config.json; put it there.\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--seeds", "1", "2", "1"], "--seeds 1 2 1 names 1 twice"),
        (["--seeds", "1", "-2"], "--seed must be 0 or more"),
        (["--learning-rates", "1e-5", "2e-5", "0.00001"], "--learning-rates 1e-05 2e-05 1e-05 names 1e-05 twice"),
        (["--batch-sizes", "8", "8"], "--batch-sizes 8 8 names 8 twice"),
    ],
)
def test_runs_that_would_be_the_same_or_cannot_be_are_told(
    start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert finetune(start, tmp_path / "out", *reviews(tmp_path), *arguments) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_metric_that_the_task_has_not_is_told(start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert finetune(start, tmp_path / "out", *reviews(tmp_path), "--metric", "bleu") == 2
    assert "--metric bleu is not a metric of classify; give one of accuracy, macro_f1" in capsys.readouterr().err
