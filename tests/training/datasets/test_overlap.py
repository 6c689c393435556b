"""Contamination: which rows of an evaluation set a model has seen, for every task and every kind of file."""

import json
from pathlib import Path

import pytest

from training.datasets.examples import Answer, Example, Question, TaggedSentence
from training.datasets.overlap import Overlap, overlap_report, overlapping
from training.datasets.texts import read_texts


def test_overlap_ignores_case_width_punctuation_and_space() -> None:
    assert overlapping(["Ａ店，很 好！"], ["a店很好。", "b店很好", "！！"]) == [0]


def test_the_report_counts_texts_and_lists_the_unseen_whatever_their_labels() -> None:
    train = [Example("1", "很好。"), Example("0", "！！")]
    evaluation = [Example("0", "很好"), Example("1", "不好"), Example("1", "？")]
    assert overlap_report(train, evaluation) == Overlap({"texts": 3, "in_train": 1}, [1, 2])


def test_a_pair_is_seen_where_both_its_texts_are_in_their_places() -> None:
    train = [Example("1", "甲", "乙"), Example("1", "丙丁", "戊")]
    evaluation = [Example("1", *pair) for pair in (("甲。", "乙"), ("乙", "甲"), ("甲", "戊"), ("丙", "丁戊"))]
    assert overlap_report(train, evaluation).unseen == [1, 2, 3]


def test_sentences_are_compared_by_their_tokens_and_not_their_tags() -> None:
    train = [TaggedSentence(("李", "明"), ("B-PER", "I-PER"))]
    evaluation = [TaggedSentence(("李明",), ("O",)), TaggedSentence(("李",), ("O",))]
    assert overlap_report(train, evaluation).unseen == [1]


def test_contexts_and_questions_are_counted_apart_and_a_context_decides() -> None:
    def row(context: str, question: str) -> Question:
        return Question(context + question, context, question, (Answer(context[:1], 0),))

    train = [row("北京是首都", "哪里？")]
    evaluation = [row("北京，是首都。", "什么？"), row("北京是首都", "为何？"), row("上海", "哪里")]
    report = overlap_report(train, evaluation)
    assert report.unseen == [2]
    assert report.counts == {
        "texts": 3, "in_train": 2, "contexts": 2, "contexts_in_train": 1, "questions_in_train": 1,
    }  # fmt: skip


SQUAD = {"data": [{"paragraphs": [{"context": "北京", "qas": [
    {"id": str(number), "question": "问？", "answers": [{"text": "北", "answer_start": 0}]} for number in range(2)
]}]}]}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("a.tsv", "label\ttext_a\n1\t很好\n", ["很好"]),
        ("a.csv", 'label,text_a,text_b\n1,"一,二",三\n', ["一,二", "三"]),
        ("a.jsonl", '{"label": 1, "text": "很好"}', ["很好"]),
        ("a.jsonl", '{"text": "很好"}\n{"text": "不好"}', ["很好", "不好"]),
        ("a.jsonl", '{"tokens": ["很", "好"], "tags": ["O", "O"]}', ["很好"]),
        ("a.txt", "很 O\n好 O\n\n李 S-PER\n", ["很好", "李"]),
        ("a.tsv", "很\tO\n好\tO\n", ["很好"]),
        ("a.json", json.dumps(SQUAD), ["北京"]),
        ("a.json", json.dumps(SQUAD, indent=1), ["北京"]),
        ("a.json", '{"label": 100, "sentence": "很好"}\n{"sentence": "不好"}\n', ["很好", "不好"]),
        ("a.txt", "game\t好玩\nstocks\t涨了\n", ["好玩", "涨了"]),
        ("a.txt", "第一行\n第二行\n\n另一篇\n", ["第一行第二行", "另一篇"]),
        ("a.txt", "一\t个制表符\n\n另一篇\n", ["一\t个制表符", "另一篇"]),
        ("a.md", "很 O\n", ["很 O"]),
    ],
)
def test_texts_of_every_kind_of_file_are_read(tmp_path: Path, name: str, content: str, texts: list[str]) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read_texts(tmp_path / name) == texts


def test_a_json_file_of_another_form_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"sentence": "好"}\n{"content": "坏"}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"a\.json: line 2 needs a string text_a, text, sentence or sentence1"):
        read_texts(tmp_path / "a.json")
