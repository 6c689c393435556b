"""Quantised and pruned bundles are judged beside their originals, and worse ones are refused."""

import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from model_build.bundle import Bundle, BundleError, find_bundles, open_bundle, verify_bundle
from model_build.derived import WorseThanOriginal
from model_build.runners import onnx_runner
from model_build.settings import QuantizeSettings
from tests.model_build.small_models import CHARACTERS, LABELS, small_bundle, small_checkpoint
from training.cli.ernie_build import main
from training.compressing.bundle_evaluation import MaskedTextEvaluator, TaskEvaluator
from training.compressing.comparison import Compression
from training.compressing.prune_vocabulary import prune_bundle, token_counts
from training.compressing.quantize import quantize_bundle
from training.datasets.examples import Example, TaggedSentence
from training.tasks.tokenizer import Tokenizer, pad_batch


def texts(seed: int, count: int, characters: str = CHARACTERS) -> list[str]:
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list(characters), size=rng.integers(3, 30))) for _ in range(count)]


def examples(bundle: Bundle, seed: int, count: int, wrong: int = 0) -> list[Example]:
    """Texts with the labels that the bundle itself gives them, but for the first `wrong`."""
    encoder = Tokenizer(bundle.vocab_path)
    run = onnx_runner(bundle.graph("onnx")[0], ["logits"])
    found = []
    for index, text in enumerate(texts(seed, count)):
        ids = pad_batch([encoder.encode(text, max_length=64).ids], encoder.pad)
        best = int(run({"input_ids": ids, "token_type_ids": np.zeros_like(ids)})[0].argmax())
        found.append(Example(LABELS[(best + (index < wrong)) % len(LABELS)], text))
    return found


def write(path: Path, rows: Sequence[Example]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerows([("label", "text_a"), *((row.label, row.text) for row in rows)])
    return path


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp("classifier"), "classify", vocab_size=400)


@pytest.fixture(scope="module")
def masked_lm(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp("masked-lm"), "fill-mask", vocab_size=400)


def test_a_quantised_bundle_has_its_figures_beside_the_originals(classifier: Bundle, tmp_path: Path) -> None:
    parts = {"train": examples(classifier, 1, 60), "test": examples(classifier, 2, 200, wrong=40)}
    job = Compression(parts, tmp_path / "models" / "small" / "7", max_drop=5)
    made = quantize_bundle(job, classifier, QuantizeSettings(), calibration_rows=40)
    assert made.directory == tmp_path / "models" / "small" / "7"
    assert (made.manifest.name, made.manifest.version) == ("small", "7")
    # The original is right but where the labels were made wrong.
    assert made.manifest.evaluation["original"]["test"]["accuracy"] == 0.8
    assert made.manifest.evaluation["test"]["accuracy"] == pytest.approx(0.8, abs=0.05)
    assert made.manifest.evaluation["test"]["in_train"] == 0
    assert made.manifest.provenance["quantization"]["calibration_rows"] == 40
    verify_bundle(made)
    assert find_bundles(tmp_path / "models") == [made]
    assert not [path for path in (tmp_path / "models").iterdir() if path.name.startswith(".")]


def test_figures_are_of_the_whole_part_whatever_is_seen_in_train(classifier: Bundle) -> None:
    test = examples(classifier, 2, 50, wrong=10)
    judge = TaskEvaluator(classifier, {"train": test[:30], "test": test})
    figures = judge.figures(classifier, onnx_runner(classifier.graph("onnx")[0], ["logits"]))
    assert figures["test"]["accuracy"] == 0.8
    assert figures["test"]["in_train"] == 30
    assert figures["test_not_in_train"]["accuracy"] == 1.0


def test_a_bundle_that_loses_too_much_is_refused_and_nothing_is_left(classifier: Bundle, tmp_path: Path) -> None:
    """No drop is allowed where 400 texts are judged by their own model: int8 gets some of them wrong."""
    parts = {"train": examples(classifier, 1, 20), "dev": examples(classifier, 3, 400)}
    job = Compression(parts, tmp_path / "models" / "m" / "2", max_drop=0)
    with pytest.raises(
        WorseThanOriginal,
        match=r"accuracy on dev falls by \d+\.\d\d points, from 100\.00 % to \d\d\.\d\d %, more than --max-drop 0;",
    ):
        quantize_bundle(job, classifier, QuantizeSettings())
    assert not list((tmp_path / "models").iterdir())


def test_a_masked_lm_is_judged_by_the_tokens_it_finds(masked_lm: Bundle, tmp_path: Path) -> None:
    parts = {
        "train": [Example("", text) for text in texts(1, 40)],
        "test": [Example("", text) for text in texts(2, 300)],
    }
    made = quantize_bundle(Compression(parts, tmp_path / "m" / "2", max_drop=5), masked_lm, QuantizeSettings())
    figures = made.manifest.evaluation
    for found in (figures["test"], figures["original"]["test"]):
        assert found["texts"] == 300
        assert 0 <= found["top1"] <= found["top5"] <= 1
    assert figures["test"]["loss"] == pytest.approx(figures["original"]["test"]["loss"], rel=0.2)


def test_masks_follow_from_the_text_alone_and_the_figures_from_the_scores(masked_lm: Bundle) -> None:
    """Counted again, one text at a time."""
    path, _ = masked_lm.graph("onnx")
    names = [spec.name for spec in masked_lm.manifest.outputs]
    run = onnx_runner(path, names)
    chosen = [Example("", text) for text in texts(4, 70)]
    together = MaskedTextEvaluator({"test": chosen}).figures(masked_lm, run)["test"]
    alone = [MaskedTextEvaluator({"test": [each]}).figures(masked_lm, run)["test"] for each in chosen]
    assert together["top1"] == pytest.approx(np.mean([each["top1"] for each in alone]))
    assert together["loss"] == pytest.approx(np.mean([each["loss"] for each in alone]), rel=1e-4)
    assert len({each["loss"] for each in alone}) > 50


def test_pruning_for_a_domain_keeps_its_texts_as_they_were(tmp_path: Path) -> None:
    source = small_checkpoint(tmp_path, "classify", vocab_size=400)
    original = small_bundle(tmp_path / "original", "classify", vocab_size=400)
    own = CHARACTERS[:20]
    test = [each for each in examples(original, 5, 400) if set(each.text) <= set(CHARACTERS)]
    domain = [Example("", text) for text in texts(6, 60, own)]
    inside = [
        Example(label, text) for label, text in zip([each.label for each in test], texts(7, 400, own), strict=True)
    ]
    job = Compression({"test": inside}, tmp_path / "models" / "m" / "1", max_drop=0)
    made = prune_bundle(job, source, domain, max_length=40, output=tmp_path / "pruned")
    evaluation = made.manifest.evaluation
    # The labels here are chance, the figures not: every text has the tokens it had.
    assert evaluation["test"] == evaluation["original"]["test"]
    assert made.manifest.max_length == 40
    vocabulary = made.vocab_path.read_text(encoding="utf-8").split()
    assert set(own) <= set(vocabulary)
    assert not set(CHARACTERS[25:]) - set(own) & set(vocabulary)
    assert json.loads((tmp_path / "pruned" / "config.json").read_text(encoding="utf-8"))["evaluation"] == evaluation
    # What is left can be pruned again, or finetuned.
    again = Compression({"test": inside}, tmp_path / "models" / "m" / "2", max_drop=0)
    assert prune_bundle(again, tmp_path / "pruned", domain).manifest.max_length == 40


def test_pruning_away_what_the_texts_need_is_refused(tmp_path: Path) -> None:
    source = small_checkpoint(tmp_path, "classify", vocab_size=400)
    original = small_bundle(tmp_path / "original", "classify", vocab_size=400)
    job = Compression({"test": examples(original, 5, 200)}, tmp_path / "models" / "m" / "1")
    with pytest.raises(WorseThanOriginal, match="accuracy on test falls by"):
        prune_bundle(job, source, [Example("", "今天")], output=tmp_path / "pruned")
    assert not (tmp_path / "pruned").exists()
    assert not list((tmp_path / "models").iterdir())


def test_tokens_are_counted_in_both_texts_of_a_pair(tmp_path: Path) -> None:
    source = small_checkpoint(tmp_path, "classify")
    counts = token_counts(source / "vocab.txt", [Example("", "今天今", "好"), Example("", "好word")])
    vocabulary = (source / "vocab.txt").read_text(encoding="utf-8").split()
    seen = {token: int(count) for token, count in zip(vocabulary, counts, strict=True) if count}
    assert seen == {"今": 2, "天": 1, "好": 2, "word": 1}


def test_the_commands_quantise_and_prune(classifier: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    train, test = (write(tmp_path / f"{seed}.tsv", examples(classifier, seed, 60)) for seed in (1, 2))
    models = ["--models", str(tmp_path / "models"), "--test", str(test), "--max-drop", "10"]
    assert main(["quantize", str(classifier.directory), "--train", str(train), *models]) == 0
    assert "int8, made from m 1" in (shown := capsys.readouterr().out)
    assert "accuracy 0.9" in shown or "accuracy 1.0" in shown
    assert "(original 1.0000)" in shown
    # The next version is taken, so nothing is written over.
    assert main(["quantize", str(classifier.directory), "--precision", "fp16", *models]) == 0
    assert sorted(path.name for path in (tmp_path / "models" / "m").iterdir()) == ["1", "2"]
    source = small_checkpoint(tmp_path, "classify", vocab_size=400)
    assert main(["prune-vocab", str(source), "--text", str(train), str(test), "--name", "p", *models]) == 0
    assert open_bundle(tmp_path / "models" / "p" / "1").manifest.provenance["pruning"]["positions"] == [64, 64]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--test", "test.tsv"], "there is no text to calibrate on; give examples with --train."),
        (["--train", "test.tsv"], "there is nothing to evaluate the bundle on; give examples with --dev or --test."),
        (["--train", "test.tsv", "--test", "other.tsv"], "other.tsv: line 2: label '坏' is not among the 3 of"),
        (["--train", "test.tsv", "--test", "test.tsv", "--max-drop", "-1"], "--max-drop must be 0 or more, not -1.0."),
        (["--train", "test.tsv", "--test", "test.tsv", "--keep-float", "-1"], "--keep-float must be 0 or more"),
        (["--train", "test.tsv", "--test", "test.tsv", "--calibration-rows", "0"], "--calibration-rows must be at"),
        (["--train", "test.tsv", "--test", "test.tsv", "--model-version", "3"], "bundles are immutable"),
        (["--train", "test.tsv", "--test", "test.tsv", "--model-version", "a/b"], "--model-version 'a/b' must be one"),
        (["--train", "test.tsv", "--test", "test.tsv", "--name", ".hidden"], "--name '.hidden' must be one name"),
        (["--train", "test.tsv", "--test", "pairs.tsv"], "pairs.tsv: line 2: test has pairs, but train has single te"),
        ([], "give the examples either by --dataset NAME or by the files --train, --dev and --test."),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(
    classifier: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture,
    flags: list[str], sentence: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    write(Path("test.tsv"), examples(classifier, 1, 9))
    write(Path("other.tsv"), [Example("坏", "今天")])
    Path("pairs.tsv").write_text("label\ttext_a\ttext_b\n好\t今天\t天气\n", encoding="utf-8")
    (tmp_path / "models" / "m" / "3").mkdir(parents=True)
    assert main(["quantize", str(classifier.directory), "--models", "models", *flags]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert sentence in error
    assert error.startswith("ernie-build: ")
    assert not [path for path in (tmp_path / "models").rglob("*") if path.is_file()]


def test_a_bundle_stays_in_its_own_repository_and_its_version_is_the_newest(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Where 1.5 is there, 1 would never be served."""
    bundle = small_bundle(tmp_path, "classify", vocab_size=400)
    bundle.directory.rename(bundle.directory.with_name("1.5"))
    bundle = open_bundle(bundle.directory.with_name("1.5"))
    test = write(tmp_path / "test.tsv", examples(bundle, 2, 20))
    assert main(["quantize", str(bundle.directory), "--precision", "bf16", "--test", str(test)]) == 0
    assert capsys.readouterr().out.startswith(f"wrote {bundle.directory.with_name('2')}\n")
    (newest,) = find_bundles(tmp_path / "models")
    assert newest.directory.name == "2"


def test_an_output_that_cannot_be_written_leaves_no_bundle(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = small_checkpoint(tmp_path, "classify", vocab_size=400)
    original = small_bundle(tmp_path / "original", "classify", vocab_size=400)
    test = write(tmp_path / "test.tsv", examples(original, 5, 20))
    (tmp_path / "file").write_text("")
    command = ["prune-vocab", str(source), "--text", str(test), "--test", str(test), "--max-drop", "100"]
    command += ["--models", str(tmp_path / "models"), "--output", str(tmp_path / "file" / "below")]
    assert main(command) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err
    assert not list((tmp_path / "models").iterdir())


def test_a_command_that_is_ended_leaves_nothing(classifier: Bundle, tmp_path: Path) -> None:
    """SIGTERM while the new bundle is being judged, when it lies aside already."""
    test = write(tmp_path / "test.tsv", examples(classifier, 1, 20))
    script = """
import os, signal, sys
from training.cli.ernie_build import main
from training.compressing import bundle_evaluation

def evaluate(*_):
    assert list(__import__("pathlib").Path(sys.argv[-1]).glob(".compression-*/made/1/bundle.json"))
    os.kill(os.getpid(), signal.SIGTERM)

bundle_evaluation.evaluate = evaluate
sys.exit(main(sys.argv[1:]))
"""
    command = ["quantize", str(classifier.directory), "--precision", "fp16", "--test", str(test)]
    models = tmp_path / "models"
    done = subprocess.run(
        [sys.executable, "-c", script, *command, "--models", str(models)], capture_output=True, text=True
    )
    assert done.returncode == 130, done.stderr
    assert done.stderr.splitlines()[-1] == "ernie-build: interrupted; nothing was written."
    assert not list(models.iterdir())


def test_bundles_are_looked_into_where_no_library_of_training_is(classifier: Bundle) -> None:
    """As `pip install ernie-zh[serve]` leaves it: the commands of training are listed, and need more when they run."""
    script = """
import sys
for name in ("onnx", "onnxruntime", "paddle", "paddlenlp", "sklearn", "tqdm"):
    sys.modules[name] = None
from training.cli.ernie_build import main
sys.exit(main(["inspect", sys.argv[1]]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(classifier.directory)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("m version 1: classify")


def test_a_masked_lm_takes_no_labelled_set(masked_lm: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["quantize", str(masked_lm.directory), "--dataset", "chnsenticorp", "--models", str(tmp_path)]) == 2
    assert "a masked LM is evaluated on plain text" in capsys.readouterr().err


def test_a_tagger_is_judged_by_its_entities(tmp_path: Path) -> None:
    """Token classification has another metric, and rows with a tag for every token."""
    bundle = tagger(tmp_path)
    rows = [
        TaggedSentence(tuple(text), tuple("B-LOC" if index % 3 == 0 else "O" for index in range(len(text))))
        for text in texts(8, 40)
    ]
    judge = TaskEvaluator(bundle, {"train": rows, "dev": rows[:20]})
    assert judge.metrics == {"dev": "f1"}
    assert len(judge.calibration(bundle, 10)) == 2
    made = quantize_bundle(
        Compression({"train": rows, "dev": rows[:20]}, tmp_path / "m" / "2", max_drop=100), bundle, QuantizeSettings()
    )
    assert 0 <= made.manifest.evaluation["dev"]["f1"] <= 1


def tagger(directory: Path) -> Bundle:
    import paddle

    from model_build.checkpoint import read_checkpoint, save_checkpoint
    from model_build.export import export_checkpoint
    from model_build.heads import ErnieForTokenClassification

    about = read_checkpoint(small_checkpoint(directory, "classify"))
    about.task, about.labels = "token-classification", ["O", "B-LOC", "I-LOC"]
    about.provenance = {"labels": about.labels, "scheme": "BIO"}
    paddle.seed(6)
    model = ErnieForTokenClassification(about.config, 3)
    save_checkpoint(directory / "tagger", about, model, directory / "classify" / "vocab.txt", [])
    return export_checkpoint(directory / "tagger", directory / "models", name="tagger")


def test_a_bundle_in_the_way_is_refused_before_work_begins(classifier: Bundle, tmp_path: Path) -> None:
    (tmp_path / "m" / "2").mkdir(parents=True)
    with pytest.raises(BundleError, match="bundles are immutable"):
        Compression({"test": examples(classifier, 1, 3)}, tmp_path / "m" / "2")
