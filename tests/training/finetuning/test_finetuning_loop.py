"""The finetuning loop: the same losses as PaddleNLP's classes, the best weights, kills that change nothing."""

import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddlenlp import transformers as published

from model_build.bundle import read_vocabulary
from model_build.config import ErnieConfig
from model_build.weights import read_weights
from training.datasets.examples import Example
from training.finetuning.loop import FinetuneRun, finetune, predict
from training.finetuning.settings import FinetuneRunSettings, FinetuneSettings
from training.runs.interruption import InterruptedRun, interruption
from training.runs.learning_rate import learning_rate
from training.runs.mixed_precision import DivergedError
from training.runs.records import Records
from training.tasks.classification import Classification, balanced_weights
from training.tasks.task import TaskBatch, batches
from training.tasks.tokenizer import Tokenizer

VOCAB = Path(__file__).parents[3] / "models" / "masked-lm" / "2" / "vocab.txt"
CONFIG = ErnieConfig(
    vocab_size=len(read_vocabulary(VOCAB)), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
    intermediate_size=64, max_position_embeddings=64, initializer_range=0.1,
)  # fmt: skip
GOOD = ("房间很干净", "服务很周到", "屏幕清晰", "送货快", "非常喜欢", "物美价廉")
BAD = ("质量太差", "非常失望", "态度恶劣", "印刷模糊", "退货了", "又脏又吵")
SETTINGS = FinetuneSettings(epochs=3, batch_size=8, max_seq_length=32, learning_rate=3e-3)


def reviews(first: int, count: int) -> list[Example]:
    rng = np.random.default_rng(first)
    found = []
    for number in range(first, first + count):
        label, phrases = ("1", GOOD) if number % 2 else ("0", BAD)
        found.append(Example(label, "，".join(rng.choice(phrases, rng.integers(1, 4))) + f"，第{number}条。"))
    return found


EXAMPLES = {"train": reviews(0, 60), "dev": reviews(1000, 20)}


def task(length: int = 32, weights: np.ndarray | None = None) -> Classification:
    return Classification(Tokenizer(VOCAB), ["0", "1"], length, weights)


def run(output: Path, run_settings: FinetuneRunSettings | None = None, **changes: Any) -> FinetuneRun:
    settings = dataclasses.replace(SETTINGS, **changes)
    return FinetuneRun(
        task(), CONFIG, EXAMPLES, None, settings, output, run_settings or FinetuneRunSettings(log_every=1)
    )


def weights(model: paddle.nn.Layer) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in model.state_dict().items()}


def equal(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    return weights(finetune(run(tmp_path_factory.mktemp("whole"))).model)


def test_the_losses_are_those_of_paddlenlp_for_thirty_steps(tmp_path: Path) -> None:
    paddle.seed(5)
    theirs = published.ErnieForSequenceClassification(
        published.ErnieConfig(
            **CONFIG.to_dict() | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}, num_labels=2
        )
    )
    theirs.save_pretrained(str(tmp_path / "published"))
    rows = task().rows(EXAMPLES["train"])
    settings = dataclasses.replace(SETTINGS, epochs=4, dropout=0.0, clip_norm=1.0)  # 8 steps an epoch: 32
    pretrained = read_weights(tmp_path / "published")
    run_settings = FinetuneRunSettings(log_every=1)
    finetune(FinetuneRun(task(), CONFIG, EXAMPLES, pretrained, settings, tmp_path / "run", run_settings))
    ours = Records(tmp_path / "run" / "records.jsonl").read()

    decayed = {each.name for each in theirs.parameters() if each.ndim > 1}
    optimizer = paddle.optimizer.AdamW(
        0.0, parameters=theirs.parameters(), weight_decay=settings.weight_decay,
        apply_decay_param_fun=lambda name: name in decayed, grad_clip=paddle.nn.ClipGradByGlobalNorm(1.0),
    )  # fmt: skip
    order = [
        each for epoch in range(4)
        for each in batches(rows, settings.batch_size, np.random.default_rng((settings.seed, epoch)))
    ]  # fmt: skip
    paddle.seed(settings.seed)  # so begins our head, whatever head is pretrained
    head = task().model(dataclasses.replace(CONFIG, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
    for name, value in head.classifier.state_dict().items():
        theirs.classifier.state_dict()[name].set_value(value)
    theirs.train()
    differences = []
    for step, (chosen, record) in enumerate(zip(order[:30], ours, strict=False), start=1):
        batch = TaskBatch.of(chosen, 0)
        logits = theirs(paddle.to_tensor(batch.input_ids), paddle.to_tensor(batch.token_type_ids))
        loss = F.cross_entropy(logits, paddle.to_tensor([row.label for row in batch.rows]))
        loss.backward()
        rate = learning_rate(step, peak=settings.learning_rate, minimum=0.0, warmup_steps=3, decay_steps=33)
        optimizer.set_lr(rate)
        optimizer.step()
        optimizer.clear_grad()
        assert record["learning_rate"] == pytest.approx(rate)
        differences.append(abs(float(loss) - record["loss"]))
    assert len(differences) == 30
    assert max(differences) < 1e-4


def test_it_learns_and_returns_the_best_weights(tmp_path: Path) -> None:
    done = finetune(run(tmp_path, epochs=6))
    scores = {each["step"]: each["accuracy"] for each in done.evaluations}
    assert len(scores) == 6
    assert done.figures["accuracy"] == max(scores.values()) > 0.9
    assert done.step == next(step for step, score in scores.items() if score == max(scores.values()))
    rows = task().rows(EXAMPLES["dev"])
    predictions = predict(task(), done.model, EXAMPLES["dev"], rows, CONFIG.pad_token_id)
    assert task().figures(EXAMPLES["dev"], predictions)["accuracy"] == done.figures["accuracy"]


@pytest.mark.parametrize("step", [1, 8, 13])
def test_a_run_that_was_stopped_ends_with_the_same_bits(
    tmp_path: Path, whole: dict[str, np.ndarray], step: int
) -> None:
    class Stopping(Classification):
        steps = 0

        def loss(self, model: paddle.nn.Layer, batch: TaskBatch) -> paddle.Tensor:
            self.steps += 1
            if self.steps == step:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().loss(model, batch)

    before = signal.getsignal(signal.SIGTERM)
    stopping = dataclasses.replace(run(tmp_path), task=Stopping(Tokenizer(VOCAB), ["0", "1"], 32))
    with pytest.raises(
        InterruptedRun, match=rf"stopped after step {step}, which is saved; run the same command to resume"
    ):
        finetune(stopping)
    assert signal.getsignal(signal.SIGTERM) == before
    assert equal(weights(finetune(run(tmp_path)).model), whole)
    assert [each["step"] for each in finetune(run(tmp_path)).evaluations] == [8, 16, 24]


def test_a_run_that_is_over_is_not_done_again(tmp_path: Path, whole: dict[str, np.ndarray]) -> None:
    finetune(run(tmp_path))
    records = (tmp_path / "records.jsonl").read_bytes()
    assert equal(weights(finetune(run(tmp_path)).model), whole)
    assert (tmp_path / "records.jsonl").read_bytes() == records


def test_other_settings_and_other_examples_do_not_go_on_from_a_checkpoint(tmp_path: Path) -> None:
    finetune(run(tmp_path, epochs=1))
    with pytest.raises(ValueError, match=r"settings.learning_rate was 0.003 and is now 0.1"):
        finetune(run(tmp_path, epochs=1, learning_rate=0.1))
    with pytest.raises(ValueError, match=r"examples.train was"):
        finetune(dataclasses.replace(run(tmp_path, epochs=1), examples={**EXAMPLES, "train": reviews(5, 60)}))
    with pytest.raises(ValueError, match="leave out --no-resume"):
        finetune(run(tmp_path, FinetuneRunSettings(log_every=1, resume=False), epochs=1))


def test_dev_examples_that_judge_otherwise_do_not_go_on_from_a_checkpoint(tmp_path: Path) -> None:
    class Unlabelled(Classification):
        """As questions are: the rows of dev do not hold all that it is judged by."""

        def rows(self, examples: Any) -> Any:
            return [dataclasses.replace(row, label=0) for row in super().rows(examples)]

    first = dataclasses.replace(run(tmp_path, epochs=1), task=Unlabelled(Tokenizer(VOCAB), ["0", "1"], 32))
    finetune(first)
    dev = [dataclasses.replace(each, label="1") for each in EXAMPLES["dev"]]
    with pytest.raises(ValueError, match=r"examples.dev was"):
        finetune(dataclasses.replace(first, examples={**EXAMPLES, "dev": dev}))


def test_a_run_that_is_over_keeps_the_best_weights_alone(tmp_path: Path) -> None:
    finetune(run(tmp_path, epochs=1))
    (checkpoint,) = (tmp_path / "checkpoints").glob("step-*")
    assert {path.name for path in checkpoint.iterdir()} == {"best.npz", "training.json"}


def test_checkpoints_between_evaluations_are_written_where_they_are_wanted(
    tmp_path: Path, whole: dict[str, np.ndarray]
) -> None:
    class Broken(Classification):
        steps = 0

        def loss(self, model: paddle.nn.Layer, batch: TaskBatch) -> paddle.Tensor:
            self.steps += 1
            if self.steps == 6:
                raise RuntimeError("killed")
            return super().loss(model, batch)

    broken = run(tmp_path, FinetuneRunSettings(log_every=1, save_every=5))
    with pytest.raises(RuntimeError, match="killed"):
        finetune(dataclasses.replace(broken, task=Broken(Tokenizer(VOCAB), ["0", "1"], 32)))
    assert [path.name for path in (tmp_path / "checkpoints").glob("step-*")] == ["step-000000005"]
    assert equal(weights(finetune(run(tmp_path)).model), whole)


def test_the_head_begins_at_random_whatever_head_the_pretrained_model_has(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="training")
    paddle.seed(9)
    pretrained = weights(task().model(CONFIG))
    without = {name: value for name, value in pretrained.items() if not name.startswith("classifier.")}
    ends = [
        weights(finetune(dataclasses.replace(run(tmp_path / name, epochs=1), pretrained=start)).model)
        for name, start in (("with", pretrained), ("without", without))
    ]
    assert equal(*ends)
    assert caplog.text.count("randomly initialised, because not pretrained: classifier.bias, classifier.weight\n") == 2
    odd = {**without, "ernie.pooler.dense.bias": np.zeros(5, dtype=np.float32)}
    finetune(dataclasses.replace(run(tmp_path / "odd", epochs=1), pretrained=odd))
    assert "classifier.bias, classifier.weight, ernie.pooler.dense.bias" in caplog.text


def test_gradients_that_stay_infinite_are_told_with_flags_of_finetuning(tmp_path: Path) -> None:
    class Infinite(Classification):
        def loss(self, model: paddle.nn.Layer, batch: TaskBatch) -> paddle.Tensor:
            return super().loss(model, batch) * float("inf")

    diverging = run(tmp_path, FinetuneRunSettings(most_bad_steps=3))
    with pytest.raises(DivergedError, match="a lower --learning-rate or a higher --warmup-ratio") as told:
        finetune(dataclasses.replace(diverging, task=Infinite(Tokenizer(VOCAB), ["0", "1"], 32)))
    assert "--start" not in str(told.value)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="--seed must be 0 or more"):
        FinetuneSettings(seed=-1)


def test_an_interruption_within_another_is_the_same() -> None:
    with interruption() as outer:
        with interruption() as inner:
            os.kill(os.getpid(), signal.SIGTERM)
        assert inner.is_set()
        assert outer.is_set()


def test_patience_ends_a_run_that_gets_no_better(tmp_path: Path) -> None:
    done = finetune(run(tmp_path, epochs=40, patience=2, evaluate_every=8))
    steps = [each["step"] for each in done.evaluations]
    assert steps[-1] == done.step + 16 < 40 * 8
    assert all(each["accuracy"] <= done.figures["accuracy"] for each in done.evaluations)


def test_seeds_give_other_weights_and_the_same_seed_the_same(tmp_path: Path, whole: dict[str, np.ndarray]) -> None:
    assert not equal(weights(finetune(run(tmp_path / "other", seed=2)).model), whole)
    assert equal(weights(finetune(run(tmp_path / "same")).model), whole)


def test_balanced_weights_give_every_class_the_same_share() -> None:
    examples = [Example("a", "x")] * 30 + [Example("b", "y")] * 10
    found = balanced_weights(examples, ["a", "b"])
    assert found.dtype == np.float32
    assert found[0] * 30 == pytest.approx(found[1] * 10) == pytest.approx(20)


def test_class_weights_weigh_the_loss_of_a_class(tmp_path: Path) -> None:
    model = task().model(CONFIG)
    model.eval()
    batch = TaskBatch.of(task().rows(EXAMPLES["train"])[:2], 0)  # one of each class
    with paddle.no_grad():
        probabilities = np.array(task().outputs(model, batch))
        found = float(task(weights=np.array([3.0, 1.0], dtype=np.float32)).loss(model, batch))
    negative, positive = -np.log(probabilities[0, 0]), -np.log(probabilities[1, 1])
    assert found == pytest.approx((3 * negative + positive) / 4, abs=1e-5)
