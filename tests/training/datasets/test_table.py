"""Tables of labelled texts: three ways of writing the same rows, and how each broken one is refused."""

from pathlib import Path

import pytest

from training.datasets.examples import Example, check_labels, label_names
from training.datasets.table import read_examples


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def test_columns_are_found_by_the_names_in_the_header(tmp_path: Path) -> None:
    path = write(tmp_path / "train.tsv", "text_a\tlabel\n很好\t1\n\n太差\t0\n")
    assert read_examples(path) == [Example("1", "很好"), Example("0", "太差")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", "label\ttext_a\ttext_b\n1\t他说“好”\t她说好\n0\t一,二\t三\n"),
        ("a.csv", 'label,text_a,text_b\n1,他说“好”,她说好\n0,"一,二",三\n'),
        ("a.csv", 'id,sentence2,label,sentence1\n7,她说好,1,他说“好”\n8,三,0,"一,二"\n'),
        (
            "a.jsonl",
            '{"label": 1, "text": "他说“好”", "text_pair": "她说好"}\n\n'
            '{"label": "0", "sentence": " 一,二", "sentence2": "三"}',
        ),
    ],
)
@pytest.mark.parametrize("dialect", ["plain", "windows"])
def test_every_kind_of_table_gives_the_same_pairs(tmp_path: Path, name: str, content: str, dialect: str) -> None:
    data = content if dialect == "plain" else "\ufeff" + content.replace("\n", "\r\n")
    assert read_examples(write(tmp_path / name, data)) == [
        Example("1", "他说“好”", "她说好"),
        Example("0", "一,二", "三"),
    ]


def test_a_quoted_field_of_a_csv_may_hold_quotes_and_line_ends_and_lines_are_counted_through_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'label,text\n1,"第一行\n""第二""行"\n0,短\n')
    assert [(row.text, row.where.rpartition(" ")[2]) for row in read_examples(path)] == [
        ('第一行\n"第二"行', "2"),
        ("短", "4"),
    ]


def test_quotes_of_a_tsv_are_text(tmp_path: Path) -> None:
    assert read_examples(write(tmp_path / "a.tsv", 'label\ttext_a\n1\t"很好\n'))[0].text == '"很好'


def test_a_separator_of_unicode_does_not_end_a_line(tmp_path: Path) -> None:
    assert read_examples(write(tmp_path / "a.tsv", "label\ttext_a\n1\t好\u2028坏\x0b\n"))[0].text == "好\u2028坏"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.tsv", "1\t很好\n", "line 1 must have the columns label and text_a, but has 1, 很好"),
        ("a.csv", "label,content\n1,很好\n", "line 1 must have the columns label and text_a"),
        ("a.jsonl", '{"label": 1, "text": "好"}\n{"text": "好"}', "line 2 must have the columns label and text_a"),
        ("a.tsv", "label\ttext_a\n1\t很好\n1很好\n", "line 3 has 1 fields, but the header has 2"),
        ("a.csv", 'label,text_a\n1,"多\n行"\n1,很好,啊\n', "line 4 has 3 fields, but the header has 2"),
        ("a.tsv", "label\ttext_a\n1\t \n", "line 2 has an empty text_a"),
        (
            "a.tsv",
            "label\ttext_a\n1\t好\n1\t\u200b\u200b\n",
            r"line 3: the text '\\u200b\\u200b' has no visible character",
        ),
        ("a.csv", "label,text_a,text_b\n1,好,\ufffd\n", r"line 2: the text_pair '\\ufffd' has no visible character"),
        ("a.tsv", "label\ttext_a\n\t很好\n", "line 2 has an empty label"),
        ("a.csv", "label,text_a,text_b\n1,很好,\n", "line 2 has an empty text_b"),
        ("a.tsv", "label\ttext_a\n", "no example below the header"),
        ("a.tsv", "", "the file is empty"),
        ("a.jsonl", "\n \n", "the file is empty"),
        ("a.tsv", "label\ttext_a\tlabel\n1\t好\t0\n", "line 1 names the column label twice"),
        ("a.csv", "label,text_a,text\n1,好,坏\n", "line 1 has text_a and text, which mean the same"),
        ("a.csv", 'label,text_a\n1,"没有完\n', "line 2 is not CSV"),
        ("a.jsonl", '{"label": 1, "text": "好"}\n{"label": 1, text}', r"line 2 is not JSON: .* \(column 14\)"),
        ("a.jsonl", "[1, 2]", "line 1 is not a JSON object"),
        ("a.jsonl", "[" * 100_000, "line 1 is not JSON"),
        ("a.jsonl", '{"label": null, "text": "好"}', "line 1: label must be a string, but is None"),
        ("a.jsonl", '{"label": true, "text": "好"}', "line 1: label must be a string, but is True"),
        ("a.jsonl", '{"label": 1, "text": ["好"]}', "line 1: text must be a string, but is"),
        ("a.jsonl", '{"label": 1, "text": "\\ud83d"}', "line 1 has half of a surrogate pair"),
        ("a.jsonl", '{"label": 1, "text": "一"}\n{"label": 1, "text": "一", "text_b": "二"}', "line 2 is a pair, but"),
        ("a.tsv", "label\ttext_a\n1\t好\n".encode() + "0\t坏\n".encode("gbk"), r"line 3 is not UTF-8 \(byte 21\)"),
        ("a.tsv", "label\ttext_a\n".encode("utf-16"), "line 1 is not UTF-8"),
        ("a.xlsx", "PK", r"unknown format; give a \.tsv, \.csv or \.jsonl file"),
    ],
)
def test_a_broken_table_is_refused_with_file_and_line(
    tmp_path: Path, name: str, content: str | bytes, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        read_examples(write(tmp_path / name, content))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numeric_labels_sort_as_numbers() -> None:
    assert label_names([Example(label, "x") for label in ("10", "2", "1")]) == ["1", "2", "10"]


def test_a_label_that_train_has_not_is_named_with_its_line(tmp_path: Path) -> None:
    train = read_examples(write(tmp_path / "train.tsv", "label\ttext_a\n好\t一\n坏\t二\n"))
    dev = read_examples(write(tmp_path / "dev.tsv", "label\ttext_a\n好\t一\n中\t二\n"))
    check_labels(train, train[:1])
    with pytest.raises(ValueError, match=r"dev\.tsv: line 3: label '中' is not among the 2 of train: 坏, 好"):
        check_labels(train, dev)


def test_a_training_set_of_one_class_is_refused(tmp_path: Path) -> None:
    train = read_examples(write(tmp_path / "train.tsv", "label\ttext_a\n好\t一\n好\t二\n"))
    with pytest.raises(ValueError, match=r"train\.tsv.* have 1 label, 好, but a classifier needs at least two"):
        check_labels(train, train)
