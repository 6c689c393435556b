"""`ernie-train distill --corpus`: a student that learns from text."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from model_build.bundle import find_bundles
from model_build.checkpoint import read_checkpoint
from model_build.weights import read_weights
from tests.training.conftest import Small
from tests.training.pretraining.test_pretraining_loop import equal, launched, losses
from training.cli import ernie_train as cli
from training.distilling.distilled_pretraining import DistilledPretraining
from training.distilling.settings import DistillSettings
from training.distilling.teacher_assistant import distill
from training.distilling.teachers import Distillation, Student, Teacher, pretrained_teacher
from training.pretraining.loop import PretrainingLoop, PretrainJob, pretrain
from training.pretraining.micro_batches import micro_batches
from training.pretraining.objectives import Targets
from training.runs.checkpoints import ResumeError
from training.runs.data_parallel import ProcessGroup
from training.runs.interruption import InterruptedRun
from training.runs.optimizer_step import accumulate_gradients
from training.runs.records import Records


@pytest.fixture(scope="module")
def pretrained(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of a short pretraining: two layers of width 16."""
    output = tmp_path_factory.mktemp("pretrained") / "run"
    pretrain(small.job(output, steps=40, dropout=0.0))
    return output / "model"


def job_of(small: Small, teacher: Path, output: Path, **changes: Any) -> PretrainJob:
    """A student of width 8 with one layer; `changes` may be fields of DistillSettings too."""
    own = {name: changes.pop(name) for name in list(changes) if hasattr(DistillSettings, name)}
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 16}
    job = small.job(output, **{"config": dataclasses.replace(small.config, **shape), **changes})
    return dataclasses.replace(job, distillation=Distillation([teacher], DistillSettings(**own)))


def test_a_student_of_corpora_comes_to_relate_tokens_as_its_teacher_does_and_exports(
    small: Small, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "lm"
    corpora = ["--corpus", *small.corpora, "--variant", "ernie-3.0-tiny-pico-v2-zh", "--split", "8,2"]
    steps = [
        "--steps",
        "30",
        "--batch-size",
        "8",
        "--max-seq-length",
        "64",
        "--learning-rate",
        "0.003",
        "--dropout",
        "0",
    ]
    every = ["--log-every", "1", "--evaluation-samples", "8", "--masked-lm-prob", "0.2"]
    command = ["distill", "--teacher", str(pretrained), "--output", str(output), *corpora, *steps, *every]
    assert cli.main([*command, "--export", "--models", str(tmp_path / "models")]) == 0
    records = Records(output / "records.jsonl").read()
    for name in ("relations", "logits"):
        values = [record[name] for record in records]
        assert np.mean(values[-5:]) < 0.8 * np.mean(values[:3]), name
    for record in records:
        parts = record["mlm"] + record["sop"] + record["logits"] + record["relations"]
        assert record["loss"] == pytest.approx(parts, rel=1e-4)
    about = read_checkpoint(output / "model")
    assert (about.task, about.config.hidden_size) == ("fill-mask", 128)
    (teacher,) = about.provenance["distillation"]["teachers"]
    assert teacher["parameters"] > 0
    assert teacher["evaluation"] == read_checkpoint(pretrained).evaluation
    assert [bundle.manifest.task for bundle in find_bundles(tmp_path / "models")] == ["fill-mask"]
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "Loss on the teacher's relations" in page
    printed = capsys.readouterr().out.splitlines()[0]
    assert json.loads(printed)["validation"]["word/mlm_loss"] == about.evaluation["validation"]["word/mlm_loss"]


@pytest.mark.parametrize("changes", [{}, {"logits_weight": 0.0}, {"relations_weight": 0.0, "hard_weight": 0.0}])
def test_loss_and_gradients_do_not_depend_on_how_a_step_is_cut_or_laid_out(
    small: Small, pretrained: Path, tmp_path: Path, changes: dict[str, float]
) -> None:
    from tests.training.pretraining.test_micro_batches import batch_of

    settings = DistillSettings(**changes)
    job = job_of(small, pretrained, tmp_path / "run", dropout=0.0, **changes)
    teacher = pretrained_teacher(pretrained, Student(job.config, job.vocab, 64), settings)
    model = PretrainingLoop(job, None, ProcessGroup(), None, [teacher]).model
    objective, found = DistilledPretraining([teacher], settings), []
    for layout, tokens in (("padded", 10**6), ("padded", 200), ("padded", 1), ("packed", 10**6), ("packed", 128)):
        batch = batch_of(small, tmp_path, layout)
        factors = objective.factors(Targets.of(batch, ProcessGroup()))
        sums = accumulate_gradients(micro_batches(batch, tokens), lambda piece: objective.sums(model, piece), factors)
        gradients = {name: each.grad.numpy() for name, each in model.named_parameters() if each.grad is not None}
        for each in model.parameters():
            each.clear_gradient()
        found.append((sums, gradients))
    (sums, gradients), *others = found
    assert sums.shape == (4,)
    assert [bool(value) for value in sums[2:]] == [bool(settings.logits_weight), bool(settings.relations_weight)]
    for other_sums, other_gradients in others:
        np.testing.assert_allclose(other_sums, sums, rtol=1e-3)
        assert gradients.keys() == other_gradients.keys()
        for name, each in gradients.items():
            np.testing.assert_allclose(other_gradients[name], each, atol=2e-5, err_msg=name)


def test_a_distillation_from_corpora_goes_on_with_the_same_bits_and_not_with_another_teacher(
    small: Small, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"steps": 6, "layout": "packed", "recompute": True}
    distill(job_of(small, pretrained, tmp_path / "whole", **changes))
    step = PretrainingLoop.train_step

    def stopping(run: PretrainingLoop, batch: Any, stop: bool = False) -> bool:
        return step(run, batch, stop) or run.step == 3

    with monkeypatch.context() as patch:
        patch.setattr(PretrainingLoop, "train_step", stopping)
        with pytest.raises(InterruptedRun, match="stopped after step 3"):
            distill(job_of(small, pretrained, tmp_path / "run", **changes))
    with pytest.raises(ResumeError, match=r"distillation\.settings\.hard_weight was 1\.0 and is now 0\.5"):
        distill(job_of(small, pretrained, tmp_path / "run", hard_weight=0.5, **changes))
    other = tmp_path / "other"
    shutil.copytree(pretrained, other)
    state = {name: paddle.to_tensor(value + 0.01) for name, value in read_weights(other).items()}
    paddle.save(state, str(other / "model_state.pdparams"))
    with pytest.raises(ResumeError, match=r'distillation\.teachers\.0 was "sha256'):
        distill(job_of(small, other, tmp_path / "run", **changes))
    distill(job_of(small, pretrained, tmp_path / "run", **changes))
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    assert equal(*(read_weights(tmp_path / name / "model") for name in ("run", "whole")))


def test_two_processes_learn_from_a_teacher_as_one_does(small: Small, pretrained: Path, tmp_path: Path) -> None:
    changes = {"steps": 6, "dropout": 0.0}
    distill(job_of(small, pretrained, tmp_path / "one", **changes))
    launched(job_of(small, pretrained, tmp_path / "two", **changes), 2, tmp_path)
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=1e-4)
    one, two = (Records(tmp_path / name / "records.jsonl").read() for name in ("one", "two"))
    assert [each["relations"] for each in two] == pytest.approx([each["relations"] for each in one], rel=1e-3)


def test_an_assistant_of_corpora_leaves_a_model_of_its_own(
    small: Small, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(small, pretrained, tmp_path / "run", steps=2)
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    with pytest.raises(ValueError, match="--assistant works with one process only"):
        distill(job, "ernie-3.0-tiny-pico-v2-zh")
    monkeypatch.delenv("PADDLE_TRAINERS_NUM")
    distill(job, "ernie-3.0-tiny-pico-v2-zh")
    sizes = [read_checkpoint(path / "model").config.hidden_size for path in (job.output / "assistant", job.output)]
    assert sizes == [128, 8]
    names = [read_checkpoint(path / "model").provenance["distillation"]["teachers"][0]["parameters"]
             for path in (job.output / "assistant", job.output)]  # fmt: skip
    assert names[1] > names[0] * 4, "the second was taught by the assistant"


def test_a_finetuned_teacher_has_relations_alone_to_teach_from_corpora(
    small: Small, pretrained: Path, tmp_path: Path
) -> None:
    encoder = {name: value for name, value in read_weights(pretrained).items() if name.startswith("ernie.")}
    finetuned = tmp_path / "finetuned"
    shutil.copytree(pretrained, finetuned)
    paddle.save(
        {name: paddle.to_tensor(each) for name, each in encoder.items()}, str(finetuned / "model_state.pdparams")
    )
    with pytest.raises(ValueError, match="has no masked-LM head, so it has no probabilities to learn"):
        distill(job_of(small, finetuned, tmp_path / "run", steps=2))
    distill(job_of(small, finetuned, tmp_path / "run", steps=2, logits_weight=0.0))
    records = Records(tmp_path / "run" / "records.jsonl").read()
    assert "logits" not in records[-1]
    assert records[-1]["relations"] > 0


def test_a_teacher_of_corpora_that_does_not_fit_is_one_sentence(small: Small, pretrained: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="absent is not a folder"):
        distill(job_of(small, tmp_path / "absent", tmp_path / "run"))
    with pytest.raises(ValueError, match=r"--relation-heads 16 must divide both widths, 16 of .* and 8 of the student"):
        distill(job_of(small, pretrained, tmp_path / "run", relation_heads=16))
    other = tmp_path / "other"
    shutil.copytree(pretrained, other)
    with (other / "vocab.txt").open("a", encoding="utf-8") as file:
        file.write("新\n")
    with pytest.raises(ValueError, match=r"other/vocab.txt and .*vocab.txt differ"):
        distill(job_of(small, other, tmp_path / "run"))


def test_every_loss_of_a_step_is_a_mean_times_its_weight() -> None:
    settings = DistillSettings(hard_weight=0.5, logits_weight=3.0, relations_weight=2.0)
    factors = DistilledPretraining([], settings).factors(Targets(tokens=10, pairs=4, positions=100))
    assert factors == pytest.approx([0.05, 0.125, 0.3, 0.02])


def assert_deterministic(teacher: Teacher, ids: list[list[int]]) -> None:
    """The teacher has no dropout and no gradients."""
    assert teacher.model.config.hidden_dropout_prob > 0
    outputs = [teacher.model.ernie.encode(paddle.to_tensor(ids)).numpy() for _ in range(2)]
    np.testing.assert_array_equal(*outputs)
    assert all(each.stop_gradient for each in teacher.model.parameters())


def test_a_pretrained_teacher_gives_the_same_outputs_every_time(small: Small, pretrained: Path) -> None:
    student = Student(small.config, small.vocab, 64)
    assert_deterministic(pretrained_teacher(pretrained, student, DistillSettings()), [[1, 7, 8, 2]])
