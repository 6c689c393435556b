"""Rows of tokens and predictions of tagging and question answering, windows included."""

from pathlib import Path

import numpy as np
import pytest

from training.datasets.examples import Answer, Example, Question, TaggedSentence
from training.datasets.tag_schemes import BIO, BMES, IOB1
from training.tasks.classification import Classification
from training.tasks.question_answering import QuestionAnswering
from training.tasks.task import TaskBatch, batches
from training.tasks.token_classification import IGNORED, TokenClassification
from training.tasks.tokenizer import Tokenizer

VOCAB = Path(__file__).parents[3] / "models" / "masked-lm" / "2" / "vocab.txt"
TAGS = ["O", "B-LOC", "M-LOC", "E-LOC", "S-LOC"]
CONTEXT = "北京是中华人民共和国的首都，人口两千多万。上海是最大的城市，哈尔滨是黑龙江省的省会，冬天有冰雪节。"


@pytest.fixture(scope="module")
def encoder() -> Tokenizer:
    return Tokenizer(VOCAB)


def shown(encoder: Tokenizer, ids: list[int]) -> str:
    return "".join(encoder.tokens[each] for each in ids)


# Classification


def test_a_pair_is_one_row_with_the_second_text_as_second_segment(encoder: Tokenizer) -> None:
    task = Classification(encoder, ["0", "1"], 12)
    (row,) = task.rows([Example("1", "天气很好很好很好", "去公园")])
    assert shown(encoder, row.input_ids) == "[CLS]天气很好很好[SEP]去公园[SEP]"
    assert shown(encoder, row.input_ids[row.second :]) == "去公园[SEP]"
    assert row.label == 1


def test_a_single_text_has_no_second_segment_and_is_cut(encoder: Tokenizer) -> None:
    (row,) = Classification(encoder, ["0", "1"], 8).rows([Example("0", "天气很好很好很好")])
    assert len(row.input_ids) == row.second == 8
    batch = TaskBatch.of([row], encoder.pad)
    assert not batch.token_type_ids.any()


def test_batches_hold_every_row_once_and_rows_of_similar_length(encoder: Tokenizer) -> None:
    rows = Classification(encoder, ["0", "1"], 60).rows([Example("0", "好" * (1 + n % 50)) for n in range(203)])
    made = batches(rows, 8, np.random.default_rng(3))
    assert sorted(row.example for batch in made for row in batch) == list(range(203))
    padding = sum(len(batch) * max(len(row.input_ids) for row in batch) for batch in made)
    assert padding < 1.1 * sum(len(row.input_ids) for row in rows)
    other = batches(rows, 8, np.random.default_rng(4))
    assert [row.example for row in made[0]] != [row.example for row in other[0]]


# Tagging


def sentence(text: str, tags: list[str] | None = None) -> TaggedSentence:
    return TaggedSentence(tuple(text), tuple(tags or ["O"] * len(text)))


def test_a_token_is_read_at_its_first_piece(encoder: Tokenizer) -> None:
    task = TokenClassification(encoder, TAGS, 32, BMES)
    (row,) = task.rows([TaggedSentence(("在", "2022", " ", "京"), ("O", "O", "O", "S-LOC"))])
    assert [encoder.tokens[each] for each in row.input_ids] == ["[CLS]", "在", "20", "##22", "[UNK]", "京", "[SEP]"]
    assert row.heads == [1, 2, 4, 5]
    assert row.tags == [0, 0, 0, 4]


def test_a_tag_that_training_does_not_know_counts_for_nothing(encoder: Tokenizer) -> None:
    (row,) = TokenClassification(encoder, TAGS, 32, BMES).rows([sentence("在京", ["O", "S-ORG"])])
    assert row.tags == [0, IGNORED]


@pytest.mark.parametrize("length", [8, 11, 30, 200])
def test_every_token_of_a_long_sentence_gets_the_tag_of_the_window_with_most_context(
    encoder: Tokenizer, length: int
) -> None:
    text = CONTEXT * 3
    task = TokenClassification(encoder, TAGS, length, BMES)
    examples = [sentence("短"), sentence(text), sentence("句")]
    rows = task.rows(examples)
    assert all(len(row.input_ids) <= length for row in rows)
    # Each window says how much context a token has in it, as far as tags can say so.
    outputs = [np.array([min(place, len(row.heads) - 1 - place, 4) for place in range(len(row.heads))]) for row in rows]
    found = task.predictions(examples, rows, outputs)
    assert [len(each["tags"]) for each in found] == [1, len(text), 1]
    best = [
        max(output[token - row.first] for row, output in zip(rows, outputs, strict=True)
            if row.example == 1 and row.first <= token < row.first + len(row.heads))
        for token in range(len(text))
    ]  # fmt: skip
    assert found[1]["tags"] == [TAGS[each] for each in best]


def test_one_token_of_more_pieces_than_the_model_reads_is_cut(encoder: Tokenizer) -> None:
    task = TokenClassification(encoder, TAGS, 8, BMES)
    examples = [TaggedSentence(("x" * 60, "京"), ("O", "S-LOC"))]
    rows = task.rows(examples)
    assert all(len(row.input_ids) <= 8 for row in rows)
    assert len(task.predictions(examples, rows, [np.zeros(len(row.heads), int) for row in rows])[0]["tags"]) == 2


def test_entities_are_counted_in_the_scheme_that_is_given(encoder: Tokenizer) -> None:
    examples = [sentence("李王走", ["I-PER", "B-PER", "O"])]
    predictions = [{"tags": list(examples[0].tags)}]
    found = {
        scheme.name: TokenClassification(encoder, ["O", "B-PER", "I-PER"], 32, scheme).figures(examples, predictions)
        for scheme in (IOB1, BIO)
    }
    assert found["IOB1"]["f1"] == 1
    assert (found["IOB1"]["types"]["PER"]["entities"], found["BIO"]["types"]["PER"]["entities"]) == (2, 1)


# Question answering


def question(answer: str, context: str = CONTEXT, start: int | None = None) -> Question:
    return Question("q", context, "哪里是省会？", (Answer(answer, context.index(answer) if start is None else start),))


def test_the_span_is_the_answer(encoder: Tokenizer) -> None:
    task = QuestionAnswering(encoder, 128)
    (row,) = task.rows([question("哈尔滨")])
    assert shown(encoder, row.input_ids[: row.second]) == "[CLS]哪里是省会？[SEP]"
    assert shown(encoder, row.input_ids[row.span[0] : row.span[1] + 1]) == "哈尔滨"
    begin, end = row.offsets[row.span[0] - row.second][0], row.offsets[row.span[1] - row.second][1]
    assert CONTEXT[begin:end] == "哈尔滨"


def test_a_window_without_the_answer_points_to_cls(encoder: Tokenizer) -> None:
    task = QuestionAnswering(encoder, 32, doc_stride=10)
    rows = task.rows([question("哈尔滨")])
    assert len(rows) > 2
    with_answer = [row for row in rows if row.span != (0, 0)]
    assert 0 < len(with_answer) < len(rows)
    assert all(shown(encoder, row.input_ids[row.span[0] : row.span[1] + 1]) == "哈尔滨" for row in with_answer)
    assert all(len(row.input_ids) <= 32 for row in rows)


def test_windows_cover_the_context_and_every_token_is_in_the_middle_of_one(encoder: Tokenizer) -> None:
    rows = QuestionAnswering(encoder, 32, doc_stride=7).rows([question("哈尔滨", CONTEXT * 2)])
    covered = {offset for row in rows for offset, middle in zip(row.offsets, row.middle, strict=True) if middle}
    assert {index for begin, end in covered for index in range(begin, end)} == set(range(len(CONTEXT * 2)))


@pytest.mark.parametrize("length", [32, 128])
def test_the_prediction_is_the_stretch_with_the_highest_logits(encoder: Tokenizer, length: int) -> None:
    task = QuestionAnswering(encoder, length, doc_stride=9)
    begin = CONTEXT.index("黑龙江省")
    rows = task.rows([question("哈尔滨")])
    outputs = []
    for row in rows:
        starts = np.array([5.0 if offset[0] == begin else -1.0 for offset in row.offsets], dtype=np.float32)
        ends = np.array([4.0 if offset[1] == begin + 4 else -1.0 for offset in row.offsets], dtype=np.float32)
        outputs.append((starts, ends))
    (found,) = task.predictions([question("哈尔滨")], rows, outputs)
    assert found == {"id": "q", "answer": "黑龙江省", "start": begin, "score": 9.0}


def test_an_end_before_its_start_and_an_answer_too_long_are_none(encoder: Tokenizer) -> None:
    task = QuestionAnswering(encoder, 128, max_answer_length=3)
    (row,) = task.rows([question("哈尔滨")])
    starts, ends = (np.full(len(row.offsets), -9.0, dtype=np.float32) for _ in range(2))
    starts[10], ends[5], ends[20], ends[11] = 9, 9, 9, 1
    (found,) = task.predictions([question("哈尔滨")], [row], [(starts, ends)])
    assert found["answer"] == CONTEXT[row.offsets[10][0] : row.offsets[11][1]]
    assert found["score"] == 10.0


def test_an_answer_without_a_place_is_for_evaluation_alone(encoder: Tokenizer) -> None:
    task = QuestionAnswering(encoder, 128)
    (row,) = task.rows([Question("q", CONTEXT, "哪里？", (Answer("不在这里", None),))])
    assert row.span == (0, 0)


@pytest.mark.parametrize("length", [16, 32, 64])
def test_windows_overlap_by_half_however_large_the_stride(encoder: Tokenizer, length: int) -> None:
    context = CONTEXT * 3
    task = QuestionAnswering(encoder, length, doc_stride=500)
    room = length - len("哪里是省会？") - 3
    for begin in range(len(context) - room // 2):
        rows = task.rows([question(context[begin : begin + room // 2], context, begin)])
        assert any(row.span != (0, 0) for row in rows), begin


def test_questions_without_an_answer_in_a_window_are_not_learnt_from(
    encoder: Tokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="training")
    task = QuestionAnswering(encoder, 32)
    unplaced = Question("q", CONTEXT, "哪里？", (Answer("不在这里", None),))
    questions = [unplaced, question("哈尔滨"), question(CONTEXT[:40])]
    assert {row.example for row in task.training_rows(questions)} == {1}
    assert {row.example for row in task.rows(questions)} == {0, 1, 2}
    assert len(task.training_rows(questions)) == len(task.rows([question("哈尔滨")]))  # its windows without it, too
    assert (
        "2 of the 3 train questions are not used: for 1 the answer does not occur in the context, for 1 no window "
        "contains it" in caplog.text
    )
    with pytest.raises(ValueError, match="no training question has an answer"):
        task.training_rows([unplaced])
