"""`ernie-train distill` from files to a bundle: tasks, unlabelled texts, assistants, corpora, and what does not fit."""

import dataclasses
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
import yaml
from paddlenlp import transformers as published

from model_build.bundle import find_bundles
from model_build.checkpoint import load_model, read_checkpoint
from model_build.weights import read_weights
from tests.training.distilling.test_distill_corpora import assert_deterministic
from tests.training.finetuning.test_finetuning_job import questions, reviews, tagged, texts
from tests.training.finetuning.test_finetuning_loop import BAD, CONFIG, GOOD, VOCAB
from tests.training.pretraining.test_pretraining_loop import equal
from tests.training.reports.html_page import Page
from training.cli import ernie_train as cli
from training.datasets.table import read_examples
from training.datasets.unlabelled import read_unlabelled
from training.distilling.distilled_task import DistilledTask
from training.distilling.settings import DistillSettings
from training.distilling.teachers import Student, finetuned_teacher
from training.finetuning.evaluation import task_of_model
from training.tasks.task import TaskBatch

SMALL = ["--epochs", "2", "--batch-size", "8", "--max-seq-length", "32", "--learning-rate", "0.003"]
NARROW = dataclasses.replace(CONFIG, hidden_size=16, num_attention_heads=2, num_hidden_layers=1, intermediate_size=32)
AT_THE_END = ["--evaluate-every", "10000"]
"""So that the last weights are taken: the first that are right on all examples say it with little confidence."""
TASKS = ("classify", "token-classification", "question-answering")


def saved(folder: Path, config: Any) -> str:
    """A tiny checkpoint as PaddleNLP writes it, with its vocabulary."""
    paddle.seed(3)
    published.ErnieModel(published.ErnieConfig(**config.to_dict())).save_pretrained(str(folder))
    (folder / "vocab.txt").write_bytes(VOCAB.read_bytes())
    return str(folder)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved(tmp_path_factory.mktemp("start"), CONFIG)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A student of another width, with other heads and fewer layers than the teachers."""
    return saved(tmp_path_factory.mktemp("narrow"), NARROW)


def files_of(task: str, folder: Path) -> list[str]:
    """Examples of a task as flags."""
    folder.mkdir(exist_ok=True)
    if task == "classify":
        return reviews(folder)
    write, suffix, counts = (tagged, "txt", (8, 3)) if task == "token-classification" else (questions, "json", (24, 6))
    parts = zip(("train", "dev"), counts, strict=True)
    return ["--task", task, *(word for part, count in parts
                              for word in (f"--{part}", write(folder / f"{part}.{suffix}", count)))]  # fmt: skip


@pytest.fixture(scope="module")
def teachers(start: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finetuned folder for each task; that of texts is right on nearly all."""
    folder = tmp_path_factory.mktemp("teachers")
    for task in TASKS:
        files, output = files_of(task, folder / f"{task}-files"), str(folder / task)
        epochs = ["--epochs", "8", *AT_THE_END] if task == "classify" else []
        assert cli.main(["finetune", "--pretrained", start, "--output", output, *files, *SMALL, *epochs]) == 0
    return {task: folder / task / "model" for task in TASKS}


def taught(teacher: Path, output: Path, *arguments: str) -> int:
    return cli.main(["distill", "--teacher", str(teacher), "--output", str(output), *SMALL, *arguments])


def figures_of(output: Path, part: str = "dev") -> dict[str, Any]:
    return read_checkpoint(output / "model").evaluation[part]


def results_of(output: Path) -> dict[str, Any]:
    return json.loads((output / "results.json").read_text(encoding="utf-8"))


# Tasks


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("relations", ["0", "1"])
def test_a_student_of_another_width_learns_every_task_and_its_folder_tells_of_the_teacher(
    teachers: dict[str, Path], narrow: str, tmp_path: Path, task: str, relations: str
) -> None:
    output, files = tmp_path / "out", files_of(task, tmp_path / "files")
    assert taught(teachers[task], output, "--pretrained", narrow, *files, "--relations-weight", relations) == 0
    about = read_checkpoint(output / "model")
    assert (about.task, about.config.hidden_size) == (task, 16)
    told = results_of(output)["distillation"]
    assert about.provenance["distillation"] == told
    assert told["settings"]["relations_weight"] == float(relations)
    (teacher,) = told["teachers"]
    assert teacher["name"] == "model"
    assert teacher["weights"].startswith("sha256 ")
    known = read_checkpoint(teachers[task]).evaluation
    assert teacher["evaluation"] == known
    metric = results_of(output)["metric"]
    assert teacher["figures"]["dev"][metric] == known["dev"][metric], "the teacher's own figures, measured again"
    assert told["parameters"] < teacher["parameters"]
    assert teacher["parameters"] == sum(each.size for each in load_model(teachers[task]).parameters())


def test_the_report_has_sizes_and_figures_of_teacher_and_student(
    teachers: dict[str, Path], narrow: str, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    assert taught(teachers["classify"], output, "--pretrained", narrow, *reviews(tmp_path), "--seeds", "1", "2") == 0
    report = Page(output / "report.html")
    text = (output / "report.html").read_text(encoding="utf-8")
    assert "Teachers and student" in text
    assert "losses of the distillation" in text
    assert report
    shown = text[text.index("Teachers and student") :]
    student = next(run for run in results_of(output)["runs"] if run["seed"] == results_of(output)["best_seed"])
    assert f"{100 * student['figures']['test']['accuracy']:.1f} %" in shown
    assert f"{100 * figures_of(teachers['classify'].parent, 'test')['accuracy']:.1f} %" in shown


def test_a_published_shape_takes_the_teachers_vocabulary_and_exports(
    teachers: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, models = tmp_path / "small", tmp_path / "models"
    shape = ["--variant", "ernie-3.0-tiny-pico-v2-zh", "--epochs", "1", "--export", "--models", str(models)]
    assert taught(teachers["classify"], output, *shape, *reviews(tmp_path)) == 0
    about = read_checkpoint(output / "model")
    assert (about.config.hidden_size, about.config.num_hidden_layers) == (128, 3)
    assert about.config.vocab_size == CONFIG.vocab_size
    assert about.provenance["pretrained"] == {"start": "ernie-3.0-tiny-pico-v2-zh", "from_scratch": True}
    assert (output / "model" / "vocab.txt").read_bytes() == VOCAB.read_bytes()
    assert [bundle.manifest.name for bundle in find_bundles(models)] == ["small"]
    assert json.loads(capsys.readouterr().out.splitlines()[0])["test"]["examples"] == 20


def few(folder: Path) -> tuple[list[str], str]:
    """Labels for one phrase of each kind, and texts with all phrases without labels."""
    lines = [f"1\t{GOOD[0]}，第{number}条。\n0\t{BAD[0]}，第{number}条。" for number in range(8)]
    (folder / "train.tsv").write_text("label\ttext_a\n" + "\n".join(lines) + "\n", encoding="utf-8")
    files = ["--train", str(folder / "train.tsv"), "--dev", texts(folder / "dev.tsv", 1000, 60)]
    labelled = read_examples(Path(texts(folder / "more.tsv", 0, 128)))
    (folder / "more.txt").write_text("\n\n".join(each.text for each in labelled) + "\n", encoding="utf-8")
    return files, str(folder / "more.txt")


def divergence(teacher: Path, student: Path, path: Path) -> float:
    """Mean KL(teacher || student) of the labels' probabilities of the texts in a table."""
    examples, said = read_examples(path), []
    for folder in (teacher, student):
        task = task_of_model(folder, read_checkpoint(folder))
        batch = TaskBatch.of(task.rows(examples), 0)
        said.append(np.array(task.outputs(load_model(folder), batch)))
    return float((said[0] * np.log(said[0] / said[1])).sum(-1).mean())


def test_texts_without_labels_bring_a_student_closer_to_its_teacher_than_labels_alone(
    teachers: dict[str, Path], narrow: str, tmp_path: Path
) -> None:
    files, unlabelled = few(tmp_path)
    long = ["--epochs", "12", "--pretrained", narrow, *files, *AT_THE_END]
    assert cli.main(["finetune", "--output", str(tmp_path / "labels"), *SMALL, *long]) == 0
    alone = ["--unlabelled", unlabelled, "--relations-weight", "0"]
    assert taught(teachers["classify"], tmp_path / "taught", *long, *alone) == 0
    distances = [
        divergence(teachers["classify"], tmp_path / name / "model", tmp_path / "dev.tsv")
        for name in ("labels", "taught")
    ]
    assert distances[1] < 0.5 * distances[0]
    assert figures_of(tmp_path / "taught")["accuracy"] > figures_of(tmp_path / "labels")["accuracy"]
    assert results_of(tmp_path / "taught")["distillation"]["unlabelled"] == {"texts": 128, "dev_in_unlabelled": 0}


def test_evaluation_texts_among_those_without_labels_are_counted_and_told(
    teachers: dict[str, Path], narrow: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files, unlabelled = few(tmp_path)
    leaked = read_examples(tmp_path / "dev.tsv")[:3]
    with Path(unlabelled).open("a", encoding="utf-8") as file:
        file.writelines(each.text + "\n" for each in leaked)
    arguments = ["--pretrained", narrow, *files, "--unlabelled", unlabelled, "--epochs", "1"]
    assert taught(teachers["classify"], tmp_path / "out", *arguments) == 0
    assert "3 of the 60 dev examples occur in the unlabelled texts" in caplog.text
    assert results_of(tmp_path / "out")["distillation"]["unlabelled"] == {"texts": 131, "dev_in_unlabelled": 3}


def test_of_a_table_without_labels_only_the_texts_count(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("label\ttext_a\n7\t很好\n\t不好\n", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"text": "很好"}\n{"text": "不好"}\n', encoding="utf-8")
    (tmp_path / "c.txt").write_text("很好\n\n 不好\n", encoding="utf-8")
    for name in ("a.tsv", "b.jsonl", "c.txt"):
        assert [(each.label, each.text) for each in read_unlabelled(tmp_path / name)] == [("", "很好"), ("", "不好")]
    (tmp_path / "d.csv").write_text("label\n7\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"d.csv: line 1 must have the column text_a, but has label"):
        read_unlabelled(tmp_path / "d.csv")


def test_a_teacher_with_its_labels_in_another_order_teaches_the_same(
    teachers: dict[str, Path], narrow: str, tmp_path: Path
) -> None:
    turned = tmp_path / "turned"
    shutil.copytree(teachers["classify"], turned)
    state = read_weights(turned)
    for name in ("classifier.weight", "classifier.bias"):
        state[name] = state[name][..., ::-1].copy()
    paddle.save({name: paddle.to_tensor(value) for name, value in state.items()}, str(turned / "model_state.pdparams"))
    about = json.loads((turned / "config.json").read_text(encoding="utf-8"))
    about["labels"], about["provenance"]["labels"] = ["1", "0"], ["1", "0"]
    (turned / "config.json").write_text(json.dumps(about), encoding="utf-8")
    arguments = ["--pretrained", narrow, *reviews(tmp_path), "--epochs", "1", "--hard-weight", "0"]
    for name, teacher in (("one", teachers["classify"]), ("other", turned)):
        assert taught(teacher, tmp_path / name, *arguments) == 0
    assert equal(*(read_weights(tmp_path / name / "model") for name in ("one", "other")))
    one, other = (results_of(tmp_path / name)["distillation"]["teachers"][0] for name in ("one", "other"))
    assert one["figures"] == other["figures"]


def test_several_teachers_are_told_of_and_teach_otherwise_than_one(
    teachers: dict[str, Path], start: str, narrow: str, tmp_path: Path
) -> None:
    files = reviews(tmp_path)
    worse = ["finetune", "--pretrained", start, "--output", str(tmp_path / "worse"), *files, *SMALL, "--epochs", "1"]
    assert cli.main(worse) == 0
    arguments = ["--pretrained", narrow, *files, "--epochs", "1"]
    assert taught(teachers["classify"], tmp_path / "one", *arguments) == 0
    second = str(tmp_path / "worse" / "model")
    command = ["distill", "--teacher", str(teachers["classify"]), second, "--output", str(tmp_path / "both"), *SMALL]
    assert cli.main([*command, *arguments]) == 0
    assert len(results_of(tmp_path / "both")["distillation"]["teachers"]) == 2
    assert not equal(*(read_weights(tmp_path / name / "model") for name in ("one", "both")))


# Stopped, resumed, refused


@pytest.mark.parametrize("relations", ["0", "1"])
def test_a_distillation_that_was_stopped_ends_with_the_same_bits(
    teachers: dict[str, Path], narrow: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relations: str
) -> None:
    files, unlabelled = few(tmp_path)
    arguments = ["--pretrained", narrow, *files, "--unlabelled", unlabelled, "--relations-weight", relations]
    assert taught(teachers["classify"], tmp_path / "whole", *arguments) == 0
    loss, steps = DistilledTask.loss, 0

    def stopping(self: DistilledTask, model: paddle.nn.Layer, batch: TaskBatch) -> paddle.Tensor:
        nonlocal steps
        steps += 1
        if steps == 23:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss(self, model, batch)

    with monkeypatch.context() as patch:
        patch.setattr(DistilledTask, "loss", stopping)
        assert taught(teachers["classify"], tmp_path / "run", *arguments) == 130
    assert not (tmp_path / "run" / "model").exists()
    assert taught(teachers["classify"], tmp_path / "run", *arguments) == 0
    assert equal(*(read_weights(tmp_path / name / "model") for name in ("whole", "run")))


def test_a_run_does_not_go_on_with_another_teacher_or_other_weights_of_the_losses(
    teachers: dict[str, Path], narrow: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(teachers["classify"], other)
    arguments = ["--pretrained", narrow, *reviews(tmp_path), "--epochs", "1"]
    assert taught(other, tmp_path / "out", *arguments) == 0
    assert taught(other, tmp_path / "out", *arguments, "--temperature", "3") == 2
    assert "distillation.settings.temperature was 2.0 and is now 3.0" in capsys.readouterr().err
    state = {name: paddle.to_tensor(value * 1.01) for name, value in read_weights(other).items()}
    paddle.save(state, str(other / "model_state.pdparams"))
    assert taught(other, tmp_path / "out", *arguments) == 2
    assert 'distillation.teachers.0 was "sha256' in capsys.readouterr().err


def test_what_took_effect_is_written_and_does_the_same_again(
    teachers: dict[str, Path], narrow: str, tmp_path: Path
) -> None:
    config = tmp_path / "flags.yaml"
    config.write_text(
        f"teacher: [{teachers['classify']}]\ntemperature: 4\nepochs: 1\nseeds: [3, 4]\n", encoding="utf-8"
    )
    output = tmp_path / "out"
    command = ["distill", "--pretrained", narrow, "--output", str(output), *reviews(tmp_path), "--config", str(config)]
    assert cli.main([*command, "--temperature", "5", "--max-seq-length", "32"]) == 0
    settings = yaml.safe_load((output / "settings.yaml").read_text(encoding="utf-8"))
    assert (settings["temperature"], settings["epochs"], settings["seeds"]) == (5.0, 1, [3, 4])
    assert (settings["batch_size"], settings["relation_heads"]) == (32, 8), "defaults of the way that was taken"
    assert "steps" not in settings
    before = (output / "results.json").read_bytes()
    assert cli.main(["distill", "--config", str(output / "settings.yaml")]) == 0
    assert (output / "results.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--teacher", "absent"], "absent/config.json is missing"),
        (["--teacher", "{tagger}"], "is for token-classification, not for classify"),
        (["--relation-heads", "3"], "--relation-heads 3 must divide both widths, 32 of --teacher"),
        (["--teacher-layer", "3"], "--teacher-layer 3 is too large"),
        (["--variant", "ernie-3.0-tiny-pico-v2-zh"], "either by --variant NAME or by --pretrained START"),
        (["--unlabelled", "{pairs}"], "pairs.tsv: line 2: the unlabelled text is a pair, but train has single texts"),
        (["--steps", "5"], "--steps is for training on --corpus, not for training on examples"),
        (["--corpus", "absent"], "--train is for training on examples, not for training on --corpus"),
        (["--assistant", "ernie-9"], "'ernie-9' is not a known ERNIE variant"),
        (["--assistant", "ernie-3.0-nano-zh", "--relation-heads", "16"], "312 of --assistant and 16 of the student"),
        (["--hard-weight", "-1"], "must be 0 or more"),
        (["--hard-weight", "0", "--logits-weight", "0"], "the head would not be trained"),
        (
            ["--from-scratch", "--pretrained", "", "--variant", "ernie-3.0-nano-zh"],
            "--from-scratch go with --pretrained",
        ),
        (["--max-seq-length", "65"], "--max-seq-length 65 is longer than the 64 positions"),
    ],
)
def test_what_does_not_fit_is_one_sentence_and_leaves_nothing(
    teachers: dict[str, Path], narrow: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    arguments: list[str], sentence: str,
) -> None:  # fmt: skip
    (tmp_path / "pairs.tsv").write_text("text_a\ttext_b\n很好\t不好\n", encoding="utf-8")
    named = {"tagger": teachers["token-classification"], "pairs": tmp_path / "pairs.tsv"}
    filled = [each.format(**named) for each in arguments]
    files = ["--pretrained", narrow, *reviews(tmp_path)]
    assert taught(teachers["classify"], tmp_path / "out", *files, *filled) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("ernie-train: ")
    assert sentence in message
    assert not (tmp_path / "out").exists()


def test_other_labels_another_vocabulary_and_fewer_positions_than_the_teachers_are_one_sentence(
    teachers: dict[str, Path], narrow: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = reviews(tmp_path)
    for path in files[1::2]:
        Path(path).write_text(Path(path).read_text("utf-8").replace("\n1\t", "\n2\t"), encoding="utf-8")
    assert taught(teachers["classify"], tmp_path / "out", "--pretrained", narrow, *files) == 2
    assert "has the labels 0, 1, but the training examples have 0, 2; teacher and student" in capsys.readouterr().err
    files = reviews(tmp_path)
    other = tmp_path / "other"
    shutil.copytree(narrow, other)
    tokens = (other / "vocab.txt").read_text(encoding="utf-8").splitlines()
    (other / "vocab.txt").write_text("\n".join([*tokens[:-2], tokens[-1], tokens[-2]]) + "\n", encoding="utf-8")
    assert taught(teachers["classify"], tmp_path / "out", "--pretrained", str(other), *files) == 2
    message = capsys.readouterr().err
    assert f"{teachers['classify'] / 'vocab.txt'} and {other / 'vocab.txt'} differ" in message
    long = saved(tmp_path / "long", dataclasses.replace(NARROW, max_position_embeddings=128))
    arguments = ["--pretrained", long, *files, "--max-seq-length", "65"]
    assert taught(teachers["classify"], tmp_path / "out", *arguments) == 2
    assert "--max-seq-length 65 is longer than the 64 positions of --teacher" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("task", TASKS[1:])
def test_texts_without_labels_are_for_classification_alone(
    teachers: dict[str, Path], narrow: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str
) -> None:
    (tmp_path / "more.txt").write_text("很好\n", encoding="utf-8")
    files = [*files_of(task, tmp_path / "files"), "--unlabelled", str(tmp_path / "more.txt")]
    assert taught(teachers[task], tmp_path / "out", "--pretrained", narrow, *files) == 2
    assert "--unlabelled is for classification" in capsys.readouterr().err


def test_help_tells_what_a_flag_means_in_either_way(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["distill", "--help"])
    assert end.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "rows per step (default: 32); training on --corpus: samples per step" in text
    assert "--temperature" in text


# Assistants


def test_an_assistant_learns_first_and_teaches_then(
    teachers: dict[str, Path], narrow: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    between = saved(tmp_path / "between", dataclasses.replace(CONFIG, hidden_size=24, num_attention_heads=3))
    arguments = ["--pretrained", narrow, *reviews(tmp_path), "--assistant", between, "--teacher-layer", "1"]
    assert taught(teachers["classify"], output, *arguments) == 0
    assistant, student = (read_checkpoint(each / "model") for each in (output / "assistant", output))
    assert (assistant.config.hidden_size, student.config.hidden_size) == (24, 16)
    taught_by = [each.provenance["distillation"]["teachers"][0] for each in (assistant, student)]
    assert taught_by[0]["weights"] != taught_by[1]["weights"]
    assert taught_by[1]["evaluation"]["dev"] == assistant.evaluation["dev"]
    layers = [each.provenance["distillation"]["settings"]["teacher_layer"] for each in (assistant, student)]
    assert layers == [1, 0], "of the assistant the last layer teaches"
    weights = read_weights(output / "model")
    before = {path: path.stat().st_mtime_ns for path in output.rglob("checkpoints/step-*")}
    assert len(before) == 2
    assert taught(teachers["classify"], output, *arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before, "no step must be done twice"
    assert equal(read_weights(output / "model"), weights)


def test_a_finetuned_teacher_gives_the_same_outputs_every_time(teachers: dict[str, Path]) -> None:
    task = task_of_model(teachers["classify"], read_checkpoint(teachers["classify"]))
    student = Student(CONFIG, VOCAB, 32)
    assert_deterministic(finetuned_teacher(teachers["classify"], task, student, DistillSettings()), [[1, 900, 901, 2]])
