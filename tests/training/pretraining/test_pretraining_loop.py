"""A pretraining run: what its losses follow from, that it goes on bit for bit, what it refuses, what it shows."""

import contextlib
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import paddle
import pytest

from model_build.atomic_write import WriteError
from model_build.checkpoint import load_model, read_checkpoint
from model_build.ernie import ErnieModel
from model_build.tokenizer_config import TokenizerSettings
from model_build.weights import read_weights
from tests.training.conftest import Small
from training.finetuning.starting_point import starting_point
from training.pretraining.loop import InterruptedRun, PretrainingLoop, PretrainJob, pretrain
from training.runs.checkpoints import CheckpointError, ResumeError
from training.runs.mixed_precision import DivergedError
from training.runs.records import Records


def losses(output: Path) -> list[float]:
    return [record["loss"] for record in Records(output / "records.jsonl").read()]


def weights(output: Path) -> dict[str, np.ndarray]:
    return read_weights(output / "model")


def equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def whole(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run of six steps that nobody disturbed."""
    output = tmp_path_factory.mktemp("whole") / "run"
    pretrain(small.job(output))
    return output


def test_the_same_job_gives_the_same_weights_and_another_seed_others(small: Small, whole: Path, tmp_path: Path) -> None:
    pretrain(small.job(tmp_path / "again"))
    assert equal(weights(whole), weights(tmp_path / "again"))
    pretrain(small.job(tmp_path / "other", seed=2))
    assert not equal(weights(whole), weights(tmp_path / "other"))


def test_fifty_losses_do_not_depend_on_the_number_of_threads(small: Small, tmp_path: Path) -> None:
    for threads in (1, 3):
        pretrain(small.job(tmp_path / str(threads), steps=50, threads=threads))
    assert len(losses(tmp_path / "1")) == 50
    assert losses(tmp_path / "1") == losses(tmp_path / "3")


def test_a_run_in_two_parts_ends_with_the_same_bits_as_one(small: Small, whole: Path, tmp_path: Path) -> None:
    job = small.job(tmp_path / "run", decay_steps=6)
    pretrain(small.job(tmp_path / "run", steps=4, decay_steps=6))
    first = losses(tmp_path / "run")
    pretrain(job)
    pretrain(small.job(tmp_path / "whole", decay_steps=6))
    assert losses(tmp_path / "run")[:4] == first
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    assert equal(weights(tmp_path / "run"), weights(tmp_path / "whole"))


def test_more_steps_with_another_decay_and_fewer_steps_than_there_are_are_refused(small: Small, tmp_path: Path) -> None:
    pretrain(small.job(tmp_path / "run", steps=3))
    with pytest.raises(ResumeError, match=r"settings\.decay_steps was 3 and is now 5"):
        pretrain(small.job(tmp_path / "run", steps=5))
    with pytest.raises(ValueError, match="has 3 steps already, more than --steps 2"):
        pretrain(small.job(tmp_path / "run", steps=2, decay_steps=3))


def test_records_and_evaluations_of_a_killed_run_are_those_of_a_whole_one(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"steps": 8, "log_every": 4, "save_every": 3, "evaluate_every": 2}
    pretrain(small.job(tmp_path / "whole", **changes))

    def killed(run: PretrainingLoop) -> None:
        evaluate(run)
        if run.step == 4:
            raise KeyboardInterrupt

    evaluate = PretrainingLoop.evaluate
    monkeypatch.setattr(PretrainingLoop, "evaluate", killed)
    with pytest.raises(KeyboardInterrupt):
        pretrain(small.job(tmp_path / "run", **changes))
    monkeypatch.undo()
    pretrain(small.job(tmp_path / "run", **changes))
    assert len(losses(tmp_path / "whole")) == 2
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    one, other = (Records(tmp_path / name / "evaluations.jsonl").read() for name in ("whole", "run"))
    assert [each["step"] for each in one] == [2, 4, 6, 8]
    assert other == one


def test_a_run_that_started_from_other_weights_is_refused(small: Small, whole: Path, tmp_path: Path) -> None:
    start = tmp_path / "start.pdparams"
    paddle.save(dict(weights(whole)), str(start))
    pretrain(small.job(tmp_path / "run", steps=2, decay_steps=3, start=str(start)))
    pretrain(small.job(tmp_path / "run", steps=3, decay_steps=3, start=str(start)))
    paddle.save({name: value + 1 for name, value in weights(whole).items()}, str(start))
    with pytest.raises(ResumeError, match=r'start was "sha256 .*" and is now "sha256'):
        pretrain(small.job(tmp_path / "run", steps=3, decay_steps=3, start=str(start)))


def test_recompute_changes_no_loss_though_there_is_dropout(small: Small, whole: Path, tmp_path: Path) -> None:
    pretrain(small.job(tmp_path / "run", recompute=True))
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(whole), rtol=1e-5)


def test_more_steps_see_what_fewer_steps_saw_first(small: Small, whole: Path, tmp_path: Path) -> None:
    pretrain(small.job(tmp_path / "run", steps=8, decay_steps=6))
    assert losses(tmp_path / "run")[:6] == losses(whole)


def test_a_model_learns_words_and_the_order_of_sentences_has_a_loss(small: Small, tmp_path: Path) -> None:
    output = tmp_path / "run"
    job = small.job(output, steps=120, batch_size=16, dropout=0.0, evaluate_every=60, log_every=20)
    figures = pretrain(job).evaluation["validation"]
    first, last = Records(output / "evaluations.jsonl").read()
    assert (first["step"], last["step"]) == (60, 120)
    assert figures == last
    assert last["word/mlm_loss"] < 0.9 * np.log(small.config.vocab_size)
    assert last["character/top5"] > 0.2
    assert 0 < last["word/sop_accuracy"] <= 1
    records = Records(output / "records.jsonl").read()
    assert [record["step"] for record in records] == [20, 40, 60, 80, 100, 120]
    for record in records:
        assert record["loss"] == pytest.approx(record["mlm"] + record["sop"])
        assert record["tokens_per_second"] > record["samples_per_second"] > 0
        assert 0 <= record["padding"] < 1
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert page.count("validation: word") == 2, "the masked LM's loss and that of sentence order"
    assert list((output / "visualdl").iterdir())


def test_without_sentence_order_there_is_no_such_loss_and_no_such_head(small: Small, tmp_path: Path) -> None:
    pretrain(small.job(tmp_path / "run", sentence_order=False))
    assert "sop" not in Records(tmp_path / "run" / "records.jsonl").read()[-1]
    assert not [name for name in weights(tmp_path / "run") if "seq_relationship" in name]


def test_the_model_it_leaves_is_a_checkpoint_that_exports_and_finetunes(small: Small, whole: Path) -> None:
    checkpoint = read_checkpoint(whole / "model")
    assert checkpoint.task == "fill-mask"
    assert checkpoint.tokenizer == TokenizerSettings(fold_width=True)  # as `corpus build` read the text
    assert starting_point(str(whole / "model")).tokenizer == checkpoint.tokenizer
    assert checkpoint.provenance["samples"] == 48
    assert all(each["corpus"]["tokens"] > 100 for each in checkpoint.provenance["corpora"])
    assert equal(weights(whole), read_weights(whole / "checkpoints" / "step-000000006"))
    logits = load_model(whole / "model")(paddle.to_tensor([[1, 5, 6, 2]]))
    assert logits.shape == [1, 4, small.config.vocab_size]
    sentences = (whole / "model" / "sentences.txt").read_text(encoding="utf-8").splitlines()
    assert any("今天天气很好" in sentence or "公司今年" in sentence or "酒店" in sentence for sentence in sentences)


def test_a_run_starts_from_weights_that_paddlenlp_saved(small: Small, tmp_path: Path) -> None:
    from paddlenlp.transformers import ErnieConfig as PublishedConfig
    from paddlenlp.transformers import ErnieForPretraining as Published

    values = small.config.to_dict()
    published = Published(PublishedConfig(**{name: values[name] for name in values if name != "task_id"}, task_id=0))
    published.save_pretrained(str(tmp_path / "published"))
    pretrain(
        small.job(
            tmp_path / "run", start=str(tmp_path / "published"), steps=1, learning_rate=0.0, min_learning_rate=0.0
        )
    )
    state = published.state_dict()
    found = weights(tmp_path / "run")
    assert all(np.array_equal(found[name], state[name].numpy()) for name in found)


def test_a_folder_without_heads_starts_with_new_ones_and_says_so(
    small: Small, whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = {name: value for name, value in weights(whole).items() if name.startswith("ernie.")}
    assert {f"ernie.{name}" for name in ErnieModel(small.config).state_dict()} == encoder.keys()
    paddle.save(encoder, str(tmp_path / "encoder.pdparams"))
    caplog.set_level("INFO", "training")
    pretrain(small.job(tmp_path / "run", start=str(tmp_path / "encoder.pdparams"), steps=1))
    assert "cls.predictions.transform.weight" in caplog.text
    assert "these are randomly initialised" in caplog.text


# What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_seq_length": 128}, "--max-seq-length 128 is more than the model's 64 positions"),
        ({"corpora": ["absent"]}, "there is no corpus absent"),
        ({"split": "0,1"}, "gives the train part .* no share"),
        ({"precision": "bf16"}, "--precision bf16 needs a GPU"),
        ({"start": "no-such-model"}, "no-such-model"),
    ],
)
def test_what_does_not_fit_together_is_one_sentence(
    small: Small, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pretrain(small.job(tmp_path / "run", **changes))


def test_another_vocabulary_than_the_corpus_was_built_with_is_refused(small: Small, tmp_path: Path) -> None:
    tokens = small.vocab.read_text(encoding="utf-8").splitlines()
    (tmp_path / "vocab.txt").write_text("\n".join([*tokens[:5], *reversed(tokens[5:])]) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"built with another vocabulary, of .* tokens, than .*vocab\.txt"):
        pretrain(small.job(tmp_path / "run", vocab=tmp_path / "vocab.txt"))


def test_a_foreign_corpus_with_an_id_beyond_the_vocabulary_is_refused(small: Small, tmp_path: Path) -> None:
    for suffix in (".bin", ".idx", ".seg"):
        source = Path(small.corpora[0] + suffix)
        (tmp_path / f"foreign{suffix}").write_bytes(source.read_bytes())
    pretrain(small.job(tmp_path / "good", corpora=[str(tmp_path / "foreign")], steps=1))
    tokens = np.fromfile(tmp_path / "foreign.bin", dtype=np.uint16)
    tokens[70] = 9999
    tokens.tofile(tmp_path / "foreign.bin")
    with pytest.raises(ValueError, match="has the id 9999 at token 70, but ids go from 0 to"):
        pretrain(small.job(tmp_path / "run", corpora=[str(tmp_path / "foreign")]))


def test_a_foreign_corpus_of_int64_tokens_is_refused_with_the_command_that_converts_it(
    small: Small, tmp_path: Path
) -> None:
    index = bytearray(Path(f"{small.corpora[0]}.idx").read_bytes())
    count = int.from_bytes(index[18:26], "little")
    index[17] = 5  # int64
    pointers = np.frombuffer(index, "<i8", count, 34 + 4 * count)  # bytes, of 2 a token
    index[34 + 4 * count : 34 + 12 * count] = (pointers * 4).tobytes()
    (tmp_path / "foreign.idx").write_bytes(index)
    np.fromfile(f"{small.corpora[0]}.bin", dtype=np.uint16).astype("<i8").tofile(tmp_path / "foreign.bin")
    with pytest.raises(ValueError, match="holds int64, but pretraining reads uint16 and int32; convert it with"):
        pretrain(small.job(tmp_path / "run", corpora=[str(tmp_path / "foreign")]))


def test_a_vocabulary_whose_padding_is_elsewhere_is_refused(small: Small, tmp_path: Path) -> None:
    config = dataclasses.replace(small.config, pad_token_id=7)
    with pytest.raises(ValueError, match=r"as token 7, where the model expects \[PAD\]"):
        pretrain(small.job(tmp_path / "run", config=config))


def test_a_corpus_of_single_sentences_is_refused_with_sentence_order_and_taken_without(
    small: Small, tmp_path: Path
) -> None:
    from training.corpus.build import build_corpus
    from training.corpus.settings import BuildSettings

    lines = "\n\n".join(f"第{number}个标题没有第二句" for number in range(40))
    (tmp_path / "titles.txt").write_text(lines, encoding="utf-8")
    build_corpus([tmp_path / "titles.txt"], small.vocab, tmp_path / "titles", build_settings=BuildSettings(workers=1))
    job = small.job(tmp_path / "run", corpora=[str(tmp_path / "titles")], steps=1)
    with pytest.raises(ValueError, match="has two sentences, so sentence order cannot be learnt"):
        pretrain(job)
    settings = dataclasses.replace(job.settings, sentence_order=False)
    pretrain(dataclasses.replace(job, settings=settings))


def test_a_checkpoint_of_other_settings_is_refused_with_the_difference(small: Small, tmp_path: Path) -> None:
    pretrain(small.job(tmp_path / "run", steps=2))
    with pytest.raises(ResumeError, match=r"settings.learning_rate was 0\.005 and is now 0\.004"):
        pretrain(small.job(tmp_path / "run", learning_rate=0.004))
    with pytest.raises(ResumeError, match=r"corpora"):
        pretrain(small.job(tmp_path / "run", corpora=small.corpora[:1]))


def test_no_resume_refuses_to_mix_with_an_earlier_run(small: Small, tmp_path: Path) -> None:
    pretrain(small.job(tmp_path / "run", steps=1, resume=False))
    with pytest.raises(ValueError, match=r"there are checkpoints in .*; leave out --no-resume"):
        pretrain(small.job(tmp_path / "run", steps=2, resume=False))
    assert len(losses(tmp_path / "run")) == 1


def test_an_output_that_cannot_be_written_is_one_sentence(small: Small, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ValueError, match=r"cannot be written to .*file"):
        pretrain(small.job(tmp_path / "file"))


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_when_there_is_room(
    small: Small, whole: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs is not permitted here; where it is, this test runs")
    try:
        job = small.job(disk / "run", save_every=1, decay_steps=6)
        pretrain(small.job(disk / "run", save_every=1, decay_steps=6, steps=1))
        ballast = disk / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        with pytest.raises((CheckpointError, WriteError), match=r"disk/run.*No space left on device"):
            pretrain(job)
        ballast.unlink()
        pretrain(job)
        assert len(losses(disk / "run")) == 6
        assert losses(disk / "run") == losses(whole)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_gradients_that_stay_infinite_end_the_run_and_change_no_weight(
    small: Small, whole: Path, tmp_path: Path
) -> None:
    broken = {name: value.copy() for name, value in weights(whole).items()}
    broken["ernie.encoder.layers.0.linear1.weight"][:] = np.inf
    paddle.save(broken, str(tmp_path / "broken.pdparams"))
    job = small.job(tmp_path / "run", start=str(tmp_path / "broken.pdparams"), steps=10, save_every=1, most_bad_steps=3)
    with pytest.raises(DivergedError, match="3 steps in a row"):
        pretrain(job)
    kept = read_weights(tmp_path / "run" / "checkpoints" / "step-000000002")
    assert equal(kept, broken)
    assert Records(tmp_path / "run" / "records.jsonl").read()[-1]["skipped_steps"] == 2


# Killed and resumed

CHILD = """
import sys
from training.runs import cpu_environment
cpu_environment.prepare()
import pickle
from pathlib import Path
from training.pretraining.loop import pretrain
pretrain(pickle.loads(Path(sys.argv[1]).read_bytes()))
"""


def command(job: PretrainJob, folder: Path) -> list[str]:
    import pickle

    path = folder / "job.pickle"
    path.write_bytes(pickle.dumps(job))
    return [sys.executable, "-c", CHILD, str(path)]


def test_a_run_killed_at_random_moments_ends_with_the_bits_of_one_that_was_not(small: Small, tmp_path: Path) -> None:
    changes = {"steps": 40, "save_every": 1, "decay_steps": 40}
    subprocess.run(command(small.job(tmp_path / "whole", **changes), tmp_path), check=True, capture_output=True)
    child, rng, kills = command(small.job(tmp_path / "run", **changes), tmp_path), random.Random(4), 0
    checkpoints = tmp_path / "run" / "checkpoints"
    while kills < 3:
        # Killed some time after it has saved something new: during a step, a save, or the removal of an old one.
        before = max(checkpoints.glob("step-*"), default=None)
        process = subprocess.Popen(child, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and max(checkpoints.glob("step-*"), default=None) == before:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.15))
        process.kill()
        kills += process.wait() == -signal.SIGKILL
        if process.returncode == 0:
            break
    assert kills
    subprocess.run(child, check=True, capture_output=True)
    assert equal(weights(tmp_path / "run"), weights(tmp_path / "whole"))
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_sigterm_saves_and_the_same_command_goes_on(small: Small, whole: Path, tmp_path: Path) -> None:
    job = small.job(tmp_path / "run", steps=6, save_every=1000)
    records, before = tmp_path / "run" / "records.jsonl", signal.getsignal(signal.SIGTERM)

    def stop_after_a_record() -> None:
        while not records.is_file() or not records.read_text():
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGTERM)

    import threading

    thread = threading.Thread(target=stop_after_a_record, daemon=True)
    thread.start()
    with pytest.raises(InterruptedRun, match=r"stopped after step .*, which is saved; run the same command to resume"):
        pretrain(job)
    thread.join()
    assert signal.getsignal(signal.SIGTERM) == before
    pretrain(job)
    assert equal(weights(tmp_path / "run"), weights(whole))


# Several processes


def launched(job: PretrainJob, processes: int, folder: Path) -> None:
    script = folder / "child.py"
    script.write_text(CHILD, encoding="utf-8")
    arguments = command(job, folder)[3:]
    launcher = [sys.executable, "-m", "paddle.distributed.launch", f"--nproc_per_node={processes}"]
    done = subprocess.run(
        [*launcher, f"--log_dir={folder / 'log'}", str(script), *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def test_two_processes_have_the_losses_of_one_and_the_same_checkpoint(small: Small, tmp_path: Path) -> None:
    changes = {"steps": 20, "dropout": 0.0, "evaluate_every": 10, "save_every": 10, "decay_steps": 20}
    pretrain(small.job(tmp_path / "one", **changes))
    launched(small.job(tmp_path / "two", **changes), 2, tmp_path)
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=1e-5)
    one, two = (Records(tmp_path / name / "evaluations.jsonl").read() for name in ("one", "two"))
    assert [each["step"] for each in two] == [10, 20]
    for figures, others in zip(one, two, strict=True):
        assert figures.keys() == others.keys()
        assert others["word/mlm_loss"] == pytest.approx(figures["word/mlm_loss"], rel=1e-4)
    # And what two began, one may go on with.
    more = small.job(tmp_path / "two", **{**changes, "steps": 22})
    pretrain(more)
    assert len(losses(tmp_path / "two")) == 22
    state = json.loads((tmp_path / "two" / "checkpoints" / "step-000000022" / "training.json").read_text())
    assert state["state"]["samples"] == 22 * 8
