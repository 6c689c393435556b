"""Questions in the format of SQuAD 1.1: answers stand where they say, or the reader says where they do."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from training.datasets.examples import Answer, Question
from training.datasets.squad import find_nearest, read_questions

CONTEXT = "北京是首都，北京在北方。"


def squad(*qas: dict[str, Any], context: str = CONTEXT) -> dict[str, Any]:
    return {"version": "1.1", "data": [{"title": "t", "paragraphs": [{"context": context, "qas": list(qas)}]}]}


def question(id: str, *answers: tuple[str, int], text: str = "哪里？") -> dict[str, Any]:
    return {"id": id, "question": text, "answers": [{"text": text, "answer_start": start} for text, start in answers]}


def write(path: Path, value: object) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


def test_questions_are_read_with_all_their_answers(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", squad(question("1", ("首都", 3), ("北方", 9)), question("2", ("北京", 6))))
    assert read_questions(path) == [
        Question("1", CONTEXT, "哪里？", (Answer("首都", 3), Answer("北方", 9))),
        Question("2", CONTEXT, "哪里？", (Answer("北京", 6),)),
    ]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (squad(question("7", ("北京", 5))), "question 7: the answer '北京' is not at 5 of the context; it occurs at 6"),
        (
            squad(question("7", ("北京", -1))),
            "question 7: the answer '北京' is not at -1 of the context; it occurs at 0",
        ),
        (squad(question("7", ("。", -1))), "question 7: the answer '。' is not at -1 of the context; it occurs at 11"),
        (squad(question("7", ("南京", 0))), "question 7: the answer '南京' is not at 0 .* it does not occur in it"),
        (squad(question("7", ("方。", 10), text=" ")), "question 7 has no text; write one"),
        (squad(question("7", ("北京", 0)), question("7", ("北京", 0))), "question 7 occurs twice"),
        (squad(question("7")), "question 7 has no answer; every question needs one"),
        (squad({"id": "7", "question": "哪？"}), "question 7 needs a list 'answers'"),
        (squad({"id": "7", "answers": [{"text": "北京", "answer_start": 0}]}), "question 7 needs a string 'question'"),
        (squad(question("7", ("北京", "0"))), "question 7: answer_start must be a whole number, but is '0'"),
        (squad(question("7", ("", 0))), "question 7: an answer needs a string 'text'"),
        (squad({"question": "哪？"}), "a question on '北京是首都.* needs a string 'id'"),
        (squad(question("7", ("北京", 0)), context=""), "a paragraph needs a string 'context'"),
        ({"data": []}, "contains no question"),
        ([], "needs a list 'data'; SQuAD 1.1 nests data, paragraphs, qas and answers"),
        ({"data": [{"context": "x"}]}, "an article needs a list 'paragraphs'"),
        ('{"data": [\n1,,', r"is not JSON: .*\(line 2, column 3\)"),
        ("", "the file is empty"),
    ],
)
def test_a_broken_file_is_refused_with_file_and_question(tmp_path: Path, value: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        read_questions(write(tmp_path / "a.json", value))
    assert "a.json" in str(caught.value)


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.tsv: not a file of questions; give a \.json"):
        read_questions(write(tmp_path / "a.tsv", squad(question("7", ("北京", 0)))))


def test_lenient_moves_answers_to_the_nearest_place_and_counts_what_it_changed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    qas = [
        question("near", ("北京", 5), ("北京", 1)),
        question("nowhere", ("南京", 0), ("首都", 3)),
        question("empty", ("首都", 3), text=""),
    ]
    with caplog.at_level(logging.WARNING):
        questions = read_questions(write(tmp_path / "a.json", squad(*qas)), lenient=True)
    assert [entry.id for entry in questions] == ["near", "nowhere"]
    assert questions[0].answers == (Answer("北京", 6), Answer("北京", 0))
    assert questions[1].answers == (Answer("南京", None), Answer("首都", 3))
    assert [record.getMessage().partition("a.json: ")[2] for record in caplog.records] == [
        "2 answers whose start was corrected; 1 answers not in the context; 1 questions without text left out"
    ]


def test_the_nearest_place_may_overlap_another() -> None:
    assert find_nearest("哈哈哈哈", "哈哈", 1) == 1
    assert find_nearest("哈哈", "呵", 1) is None
