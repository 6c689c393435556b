"""What a student learns from a teacher: losses against plain NumPy, and what counts for nothing in them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import paddle
import pytest

from model_build.config import ErnieConfig
from model_build.cpu_gradients import paddle_gradients
from model_build.heads import ErnieForPretraining
from tests.training.finetuning.test_finetuning_loop import CONFIG, EXAMPLES, VOCAB, task
from training.datasets.examples import Answer, Example, Question, TaggedSentence
from training.datasets.tag_schemes import BIO
from training.distilling.distilled_task import DistilledTask
from training.distilling.losses import (
    States,
    averaged_log_probabilities,
    check_relations,
    record_attention,
    relation_losses,
    soft_losses,
)
from training.distilling.settings import DistillSettings
from training.distilling.teachers import Teacher
from training.tasks.classification import Classification
from training.tasks.question_answering import QuestionAnswering
from training.tasks.task import Task, TaskBatch
from training.tasks.token_classification import TokenClassification
from training.tasks.tokenizer import Tokenizer

TEXT = "北京是中华人民共和国的首都，人口两千多万。"


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def kl(teacher: np.ndarray, student: np.ndarray) -> np.ndarray:
    """Over the last axis; where the teacher has nothing, nothing is added."""
    return (teacher * (np.log(np.maximum(teacher, 1e-30)) - np.log(np.maximum(student, 1e-30)))).sum(-1)


def small(width: int = 16, heads: int = 2, layers: int = 2, seed: int = 1) -> ErnieForPretraining:
    config = ErnieConfig(
        vocab_size=60, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=2 * width, max_position_embeddings=32, initializer_range=0.3,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    paddle.seed(seed)
    return ErnieForPretraining(config)


def seen(model: paddle.nn.Layer, ids: list[list[int]], layer: int = 0, **packed: np.ndarray) -> States:
    with record_attention(model.ernie.encoder, layer) as found:
        model.ernie.encode(paddle.to_tensor(ids), **{name: paddle.to_tensor(each) for name, each in packed.items()})
    return found.states()


def total(states: Sequence[States], heads: int, real: list[list[int]]) -> float:
    """Of student and teacher."""
    student, teacher = states
    return float(relation_losses(student, teacher, heads, paddle.to_tensor(real, dtype="float32")).sum())


# Probabilities


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_loss_on_probabilities_is_the_divergence_at_the_temperature_times_its_square(temperature: float) -> None:
    rng = np.random.default_rng(1)
    student, *teachers = (rng.normal(size=(5, 7)).astype(np.float32) for _ in range(4))
    mean = np.mean([softmax(each / temperature) for each in teachers], axis=0)
    known = averaged_log_probabilities([paddle.to_tensor(each) for each in teachers], temperature)
    np.testing.assert_allclose(known.numpy(), np.log(mean), rtol=1e-5)
    found = soft_losses(paddle.to_tensor(student), known, temperature).numpy()
    np.testing.assert_allclose(found, temperature**2 * kl(mean, softmax(student / temperature)), rtol=1e-4)


def test_a_student_that_says_what_its_teacher_says_has_no_loss() -> None:
    logits = paddle.to_tensor(np.random.default_rng(2).normal(size=(4, 6)).astype(np.float32))
    assert abs(soft_losses(logits, averaged_log_probabilities([logits, logits], 3.0), 3.0).numpy()).max() < 1e-6


# Relations


def test_relations_are_those_of_the_papers_in_plain_numpy() -> None:
    student, teacher = small(16, 2, seed=1), small(24, 3, seed=2)
    ids, real = [[1, 5, 6, 7, 2], [1, 8, 2, 0, 0]], np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    ours, theirs = seen(student, ids), seen(teacher, ids)
    expected = np.zeros((2, 5))
    for name in ("query", "key", "value", "hidden"):
        heads = 1 if name == "hidden" else 4
        relations = []
        for states in (ours, theirs):
            array = getattr(states, name).numpy()
            parts = array.reshape(2, 5, heads, -1).transpose(0, 2, 1, 3)
            scores = parts @ parts.transpose(0, 1, 3, 2) / np.sqrt(parts.shape[-1])
            relations.append(softmax(scores + np.where(real, 0, -1e4)[:, None, None, :]))
        expected += kl(relations[1], relations[0]).mean(axis=1) * real
    found = relation_losses(ours, theirs, 4, paddle.to_tensor(real, dtype="float32")).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
    assert found[0].min() > 0
    assert not found[1, 3:].any()


def test_the_states_are_what_the_layer_itself_reads_and_projects() -> None:
    model = small()
    model.train()  # where the attention multiplies with all projections at once, and calls none of the three
    attention = model.ernie.encoder.layers[0].self_attn
    states = seen(model, [[1, 5, 6, 2]], layer=1)
    np.testing.assert_array_equal(states.query.numpy(), attention.q_proj(states.hidden).numpy())
    np.testing.assert_array_equal(states.value.numpy(), attention.v_proj(states.hidden).numpy())
    embedded = model.ernie.embeddings(paddle.to_tensor([[1, 5, 6, 2]]), None, None, None)
    np.testing.assert_allclose(states.hidden.numpy(), embedded.numpy(), atol=1e-6)
    assert not attention._forward_pre_hooks, "the hook must be gone"


def test_the_last_layer_is_watched_unless_another_is_named() -> None:
    model = small(layers=3)
    last, third, first = (seen(model, [[1, 5, 2]], layer) for layer in (0, 3, 1))
    np.testing.assert_array_equal(last.hidden.numpy(), third.hidden.numpy())
    assert np.abs(last.hidden.numpy() - first.hidden.numpy()).max() > 0.1


def test_the_hook_goes_even_when_the_forward_pass_fails() -> None:
    model = small()
    with pytest.raises(ZeroDivisionError), record_attention(model.ernie.encoder):
        raise ZeroDivisionError
    assert not model.ernie.encoder.layers[1].self_attn._forward_pre_hooks


def test_a_student_that_is_its_teacher_has_no_loss_on_relations() -> None:
    model = small()
    states = seen(model, [[1, 5, 6, 2], [1, 7, 2, 0]])
    assert abs(total([states, states], 8, [[1, 1, 1, 1], [1, 1, 1, 0]])) < 1e-6


def test_more_padding_changes_no_loss_on_relations() -> None:
    student, teacher = small(seed=1), small(24, 3, seed=2)
    ids, real = [1, 5, 9, 7, 2], [1] * 5
    losses = [
        total([seen(each, [ids + [0] * padding]) for each in (student, teacher)], 8, [real + [0] * padding])
        for padding in (0, 1, 11)
    ]
    assert losses[0] > 0.01
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-4)


def test_texts_packed_in_a_row_have_the_relations_they_have_alone() -> None:
    student, teacher = small(seed=1), small(24, 3, seed=2)
    texts = [[1, 5, 9, 2], [1, 7, 8, 6, 3, 2]]
    alone = sum(total([seen(each, [text]) for each in (student, teacher)], 8, [[1] * len(text)]) for text in texts)
    row = [*texts[0], *texts[1], 0, 0]
    packed = {
        "position_ids": np.array([[*range(4), *range(6), 0, 0]]),
        "segment_ids": np.array([[1] * 4 + [2] * 6 + [0, 0]]),
    }
    states = [seen(each, [row], **packed) for each in (student, teacher)]
    assert total(states, 8, [[1] * 10 + [0, 0]]) == pytest.approx(alone, rel=1e-4)
    assert states[0].attention_bias.shape == [1, 1, 12, 12]


@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_reach_the_student_through_the_states_and_are_the_same_by_hand(recompute: bool) -> None:
    teacher = small(24, 3, seed=2)
    gradients = []
    for by_hand in (True, False):
        student = small(seed=1)
        student.train()
        student.ernie.encoder.recompute = recompute and by_hand
        ids = [[1, 5, 6, 2], [1, 7, 2, 0]]
        with paddle_gradients() if not by_hand else record_attention(teacher.ernie.encoder):
            real = paddle.to_tensor([[1, 1, 1, 1], [1, 1, 1, 0]], dtype="float32")
            relation_losses(seen(student, ids), seen(teacher, ids), 8, real).sum().backward()
        gradients.append(
            {name: each.grad.numpy() for name, each in student.named_parameters() if each.grad is not None}
        )
    assert gradients[0].keys() == gradients[1].keys()
    assert np.abs(gradients[0]["ernie.encoder.layers.0.linear1.weight"]).max() > 1e-4
    assert "ernie.encoder.layers.1.linear1.weight" not in gradients[0], "what is behind the relations learns nothing"
    for name, each in gradients[0].items():
        np.testing.assert_allclose(each, gradients[1][name], atol=1e-5, err_msg=name)


def test_heads_that_do_not_divide_both_widths_and_absent_layers_are_one_sentence() -> None:
    teacher, student = small(24, 3).config, small(16).config
    check_relations(DistillSettings(), teacher, student, "T")
    with pytest.raises(
        ValueError, match="--relation-heads 12 must divide both widths, 24 of T and 16 of the student; use 8"
    ):
        check_relations(DistillSettings(relation_heads=12), teacher, student, "T")
    with pytest.raises(ValueError, match="--teacher-layer 3 is too large: T has 2 layers"):
        check_relations(DistillSettings(teacher_layer=3), teacher, student, "T")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"hard_weight": -1.0}, "must be 0 or more"),
        ({"logits_weight": 0.0, "relations_weight": 0.0}, "nothing is learnt from the teacher"),
        ({"temperature": 0.0}, "--temperature must be above 0"),
        ({"relation_heads": 0}, "--relation-heads at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_one_sentence(changes: dict[str, float], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        DistillSettings(**changes)


# Tasks


def kinds() -> dict[str, tuple[Task, Sequence[Any]]]:
    encoder = Tokenizer(VOCAB)
    sentences = [
        TaggedSentence(tuple(TEXT[:count]), tuple("B-LOC" if index < 2 else "O" for index in range(count)))
        for count in (4, 9, 17, 12)
    ]
    questions = [Question(str(count), TEXT[:count], "哪里？", (Answer("北京", 0),)) for count in (6, 11, 20)]
    return {
        "classify": (task(), EXAMPLES["train"][:6]),
        "token-classification": (TokenClassification(encoder, ["O", "B-LOC", "I-LOC"], 32, BIO), sentences),
        "question-answering": (QuestionAnswering(encoder, 24), questions),
    }


def taught(
    kind: str, settings: DistillSettings, teachers: int = 1
) -> tuple[DistilledTask, Task, Sequence[Any], list[Any]]:
    wrapped, examples = kinds()[kind]
    models = []
    for seed in range(teachers):
        paddle.seed(seed + 7)
        models.append(wrapped.model(CONFIG))
        models[-1].eval()
    found = DistilledTask(wrapped, [Teacher(VOCAB, each, "", {}) for each in models], settings, [], 0)
    return found, wrapped, examples, models


@pytest.mark.parametrize("kind", ["classify", "token-classification", "question-answering"])
@pytest.mark.parametrize("relations", [0.0, 1.0])
def test_without_dropout_a_student_that_is_its_teacher_has_the_tasks_loss_alone(kind: str, relations: float) -> None:
    distilled, wrapped, examples, (model,) = taught(kind, DistillSettings(relations_weight=relations, hard_weight=0.5))
    batch = TaskBatch.of(distilled.training_rows(examples), 0)
    assert float(distilled.loss(model, batch)) == pytest.approx(0.5 * float(wrapped.loss(model, batch)), abs=1e-5)


@pytest.mark.parametrize("kind", ["classify", "token-classification", "question-answering"])
def test_what_is_kept_of_the_teachers_is_what_they_say_of_any_batch(kind: str) -> None:
    settings = DistillSettings(hard_weight=0.0, relations_weight=0.0)
    distilled, wrapped, examples, teachers = taught(kind, settings, teachers=2)
    paddle.seed(3)
    student = wrapped.model(CONFIG)
    student.eval()
    rows = distilled.training_rows(examples)
    assert distilled.training_rows(examples)[0] is rows[0], "or every run of a job would ask the teachers again"
    for chosen in ([rows[0]], rows[1:], rows[::-1]):
        batch = TaskBatch.of(chosen, 0)
        said = [wrapped.distributions(wrapped.scores(each, batch), batch).logits for each in teachers]
        own = wrapped.distributions(wrapped.scores(student, batch), batch).logits
        expected = float(soft_losses(own, averaged_log_probabilities(said, 2.0), 2.0).mean())
        assert expected > 1e-3
        assert float(distilled.loss(student, batch)) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("kind", ["classify", "token-classification", "question-answering"])
def test_there_is_a_distribution_for_everything_predicted_row_by_row(kind: str) -> None:
    wrapped, examples = kinds()[kind]
    rows = wrapped.rows(examples)
    batch = TaskBatch.of(rows, 0)
    model = wrapped.model(CONFIG)
    model.eval()
    whole = wrapped.distributions(wrapped.scores(model, batch), batch)
    assert sum(whole.counts) == len(whole.logits)
    place = 0
    for row, count in zip(rows, whole.counts, strict=True):
        single = TaskBatch.of([row], 0)
        logits = wrapped.distributions(wrapped.scores(model, single), single).logits.numpy()
        assert len(logits) == count
        alone, within = softmax(logits), softmax(whole.logits.numpy()[place : place + count])
        np.testing.assert_allclose(within[:, : alone.shape[1]], alone, atol=1e-5)
        assert not within[:, alone.shape[1] :].any(), "padding gets no share"
        place += count


def test_rows_without_a_label_add_nothing_to_the_loss_on_labels_and_leave_that_of_the_others() -> None:
    wrapped = task(weights=np.array([3.0, 1.0], dtype=np.float32))
    model = wrapped.model(CONFIG)
    model.eval()
    labelled = wrapped.rows(EXAMPLES["train"][:3])
    unknown = Classification(Tokenizer(VOCAB), ["0", "1"], 32).rows([Example("", "不知道好不好"), Example("", "一般")])
    assert [row.label for row in unknown] == [-1, -1]
    known = float(wrapped.loss(model, TaskBatch.of(labelled, 0)))
    mixed = float(wrapped.loss(model, TaskBatch.of([unknown[0], *labelled, unknown[1]], 0)))
    assert mixed == pytest.approx(known * 3 / 5, rel=1e-4)
    assert float(wrapped.loss(model, TaskBatch.of(unknown, 0))) == 0


def test_relations_of_a_batch_are_a_mean_over_its_tokens_and_over_the_teachers() -> None:
    settings = DistillSettings(hard_weight=0.0, logits_weight=0.0)
    one, wrapped, examples, (first,) = taught("classify", settings)
    two, _, _, (_, second) = taught("classify", settings, teachers=2)
    paddle.seed(3)
    student = wrapped.model(CONFIG)
    student.eval()
    rows = one.training_rows(examples)[:3]
    lengths = [len(row.input_ids) for row in rows]
    assert len(set(lengths)) > 1
    losses = []
    for teacher in (first, second):
        sums = [
            total(
                [seen(each, [row.input_ids]) for each in (student, teacher)],
                settings.relation_heads,
                [[1] * len(row.input_ids)],
            )
            for row in rows
        ]
        losses.append(sum(sums) / sum(lengths))
    assert losses[0] > 1e-4
    batch = TaskBatch.of(rows, 0)
    assert float(one.loss(student, batch)) == pytest.approx(losses[0], rel=1e-3)
    assert float(two.loss(student, batch)) == pytest.approx(np.mean(losses), rel=1e-3)
