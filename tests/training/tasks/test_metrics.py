"""Scores of finetuned models, against counts by hand and other implementations of the same definitions."""

import json
import random
import re
from pathlib import Path

import pytest

from training.datasets.examples import Answer, Question
from training.datasets.tag_schemes import BILOU, BIO, BMES, IOB1, Scheme
from training.tasks.metrics import (
    answer_f1,
    answer_scores,
    classification_scores,
    entity_scores,
    exact,
    segment,
    spread,
)

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
real = pytest.mark.skipif(
    not DATA.is_dir(), reason="the data sets are not in ../shared/data; put them there to run this"
)


def test_classification_is_scored_as_counted_by_hand() -> None:
    # a: 2 of 3 found, one more said; b: 1 of 2 found, one more said; c never occurs.
    scores = classification_scores(list("aaabb"), list("aabab"), names=["c", "b", "a"])
    assert scores["examples"] == 5
    assert scores["accuracy"] == scores["micro_f1"] == pytest.approx(3 / 5)
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert scores["confusion"] == [[0, 0, 0], [0, 1, 1], [0, 1, 2]]
    assert json.loads(json.dumps(scores)) == scores


def test_a_label_that_is_only_predicted_counts_in_the_macro_mean() -> None:
    assert classification_scores(["a", "a"], ["a", "b"], ["a", "b"])["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)


def test_entities_are_right_with_type_and_both_ends_right() -> None:
    tags = [["B-PER", "M-PER", "E-PER", "O", "S-LOC"], ["B-ORG", "E-ORG", "O", "B-PER", "E-PER"]]
    said = [["B-PER", "M-PER", "E-PER", "O", "S-ORG"], ["B-ORG", "M-ORG", "E-ORG", "B-PER", "E-PER"]]
    scores = entity_scores(tags, said, BMES)  # 4 to find, 4 said, 2 of them right
    assert (scores["entities"], scores["precision"], scores["recall"], scores["f1"]) == (4, 0.5, 0.5, 0.5)
    assert scores["types"]["PER"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "entities": 2}
    assert scores["types"]["LOC"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "entities": 1}
    assert json.loads(json.dumps(scores)) == scores


@pytest.mark.parametrize(
    ("scheme", "tags", "said", "precision", "recall"),
    [
        (BMES, "B-PER M-PER E-PER", "B-PER M-PER M-PER", 0.0, 0.0),  # without its end: nothing was said
        (BMES, "B-PER E-PER S-LOC", "M-PER E-PER S-LOC", 1.0, 0.5),  # without its beginning
        (BIO, "B-PER I-PER O B-LOC", "I-PER I-PER O B-LOC", 1.0, 0.5),
        (IOB1, "I-PER I-PER B-PER O", "I-PER I-PER I-PER O", 0.0, 0.0),
        (IOB1, "I-PER I-PER B-PER O", "I-PER I-PER B-PER O", 1.0, 1.0),
        (IOB1, "I-PER O I-LOC", "I-PER O O", 1.0, 0.5),
        (BILOU, "B-PER L-PER U-LOC", "B-PER L-PER O", 1.0, 0.5),
        (BMES, "B E S B M E", "B E S S B E", 2 / 4, 2 / 3),
        (BMES, "O O", "O O", 0.0, 0.0),
    ],
)
def test_only_what_the_scheme_allows_is_an_entity(
    scheme: Scheme, tags: str, said: str, precision: float, recall: float
) -> None:
    scores = entity_scores([tags.split()], [said.split()], scheme)
    assert (scores["precision"], scores["recall"]) == (pytest.approx(precision), pytest.approx(recall))


def spans(tags: tuple[str, ...]) -> set[tuple[str, int, int]]:
    """Entities of BMES by a regular expression, independent of seqeval."""
    line = " ".join(tags) + " "
    places = re.finditer(r"(?<!\S)(?:B-(\S+) (?:M-\1 )*E-\1|S-(\S+)) ", line)
    return {(m[1] or m[2], line.count(" ", 0, m.start()), line.count(" ", 0, m.end())) for m in places}


@real
def test_the_scores_on_msra_ner_are_those_of_an_independent_count() -> None:
    from training.datasets.tagged import read_tagged

    rng = random.Random(7)
    tags = [row.tags for row in read_tagged(DATA / "token_classification" / "msra_ner" / "msra_test.txt")]
    known = sorted({tag for sentence in tags for tag in sentence})
    said = [tuple(rng.choice(known) if rng.random() < 0.05 else tag for tag in sentence) for sentence in tags]
    right = {(index, *span) for index, sentence in enumerate(tags) for span in spans(sentence)}
    found = {(index, *span) for index, sentence in enumerate(said) for span in spans(sentence)}
    scores = entity_scores(tags, said, BMES)
    assert scores["entities"] == len(right)
    assert scores["precision"] == pytest.approx(len(right & found) / len(found))
    assert scores["recall"] == pytest.approx(len(right & found) / len(right))
    assert 0.5 < scores["f1"] < 0.95


@pytest.mark.parametrize(
    ("answer", "pieces"),
    [
        ("光荣和ω-Force", ["光", "荣", "和", "ωforce"]),
        ("1998年，3.5%", ["1998", "年", "3.5", "%"]),
        ("The Lady's (Café)", ["the", "lady", "'s", "(", "café", ")"]),
        ("10,000人, a,b.", ["10,000", "人", ",", "a", ",", "b", "."]),
        ("《战国·无双》……", ["战", "国", "无", "双", "…", "…"]),
        ("u.s. 中", ["u.s", ".", "中"]),
        ("，。", []),
    ],
)
def test_answers_are_cut_into_han_characters_and_words(answer: str, pieces: list[str]) -> None:
    assert segment(answer) == pieces


@pytest.mark.parametrize(
    ("answer", "guess", "f1"),
    [
        ("北京市", "北京市。", 1.0),
        ("北京市", "北京", 2 * 1.0 * (2 / 3) / (1.0 + 2 / 3)),
        ("北京市", "上海", 0.0),
        ("北京市", "", 0.0),
        ("甲乙丙丁", "丙丁甲乙", 0.5),  # as a bag all four are right, in order only two
        ("甲乙丙丁", "甲乙己丙丁", 2 * (2 / 5) * (2 / 4) / (2 / 5 + 2 / 4)),  # the run breaks: two, not four in order
        ("Windows 98 系统", "windows 98", 2 * 2 / (2 + 4)),
        ("1998年", "1999年", 0.5),  # a number is one piece
    ],
)
def test_f1_is_that_of_the_longest_common_run(answer: str, guess: str, f1: float) -> None:
    assert answer_f1(answer, guess) == pytest.approx(f1)


def test_an_answer_is_exact_without_regard_to_chinese_punctuation_and_case() -> None:
    assert exact("《战国·无双》", "战国无双。")
    assert exact(" ABC", "abc")
    assert not exact("a, b", "a b")
    assert not exact("10.5", "105")


def question(id: str, *answers: str) -> Question:
    return Question(id, "x", "?", tuple(Answer(text, None) for text in answers))


def test_the_best_of_several_answers_counts() -> None:
    questions = [question("1", "北京", "北京市"), question("2", "甲乙丙丁", "丙")]
    scores = answer_scores(questions, {"1": "北京市", "2": "丙丁"})
    assert scores == {"questions": 2, "exact_match": 0.5, "f1": pytest.approx((1 + 2 / 3) / 2)}


def test_a_question_without_a_prediction_is_refused_by_id() -> None:
    with pytest.raises(ValueError, match="question 2 has no predicted answer"):
        answer_scores([question("1", "北"), question("2", "京")], {"1": "北"})


@real
def test_exact_match_is_paddlenlps_and_f1_is_at_most_its_on_han_answers() -> None:
    """PaddleNLP's score for Chinese takes characters as a bag, ours a run of them: no bag is smaller than a run."""
    from paddlenlp.metrics.squad import compute_exact, compute_f1

    from training.datasets.squad import read_questions

    rng = random.Random(3)
    file = DATA / "question_answering" / "cmrc2018" / "cmrc2018_dev.json"
    compared = same = 0
    for row in read_questions(file, lenient=True):
        for text, start in row.answers[:1]:
            at = max(0, (start or 0) + rng.choice((-2, -1, 0, 0, 0, 1, 2)))
            guess = row.context[at : at + max(1, len(text) + rng.choice((-2, 0, 0, 3)))]
            # PaddleNLP drops more: all ASCII punctuation, articles, and what stands behind a space.
            if all("\u4e00" <= char <= "\u9fa5" or char in "，。、《》" for char in text + guess):
                bag, run = compute_f1(text, guess, is_whitespace_splited=False), answer_f1(text, guess)
                assert compute_exact(text, guess) == exact(text, guess)
                assert run <= bag + 1e-9
                compared += 1
                same += abs(run - bag) < 1e-9
    assert compared > 1000
    assert same > compared / 2


def test_the_spread_of_runs() -> None:
    assert spread([0.5, 0.7]) == {"mean": pytest.approx(0.6), "standard_deviation": pytest.approx(0.02**0.5), "n": 2}
    assert spread([0.5]) == {"mean": 0.5, "standard_deviation": None, "n": 1}


def test_an_entity_whose_last_tag_is_wrong_is_wrong() -> None:
    # seqeval's default mode counts B M M as the entity B M E.
    found = entity_scores([["B-PER", "M-PER", "E-PER", "O"]], [["B-PER", "M-PER", "M-PER", "O"]], BMES)
    assert (found["precision"], found["recall"], found["f1"], found["entities"]) == (0.0, 0.0, 0.0, 1)
