"""Corpora, labelled files and vocabularies: what is read, and how bad files are refused."""

import logging
from pathlib import Path

import pytest

from training.datasets.corpus import is_held_out, read_corpus, read_documents
from training.datasets.tsv import Example, label_names, read_examples
from training.overlap import overlapping

CHNSENTICORP = Path(__file__).resolve().parents[3] / "shared" / "data" / "classification" / "chnsenticorp"


def test_a_blank_line_ends_a_document(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("第一行\n第二行\n\n \n另一篇", encoding="utf-8")
    assert list(read_documents(path)) == [["第一行", "第二行"], ["另一篇"]]


def test_full_width_letters_and_digits_become_plain_and_punctuation_stays(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("１９９８年，ＡＢ！", encoding="utf-8")
    assert list(read_documents(path)) == [["1998年，AB！"]]


def test_lines_that_are_not_utf8_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes("好\n".encode() + "中文\n".encode("gbk") + "坏\n".encode())
    with caplog.at_level(logging.WARNING):
        assert list(read_documents(path)) == [["好", "坏"]]
    assert "left out 1 lines" in caplog.text
    assert "line 2" in caplog.text


def test_a_corpus_without_documents_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"no document in .*empty\.txt"):
        read_corpus([tmp_path / "empty.txt"])


def test_the_held_out_part_is_about_a_hundredth_and_depends_on_the_text_alone() -> None:
    documents = [[f"第{number}篇"] for number in range(20_000)]
    held_out = [document for document in documents if is_held_out(document)]
    assert 140 < len(held_out) < 260
    assert all(is_held_out(list(document)) for document in held_out)


def test_labelled_texts_are_read_by_the_names_in_the_header(tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    path.write_text("text_a\tlabel\n很好\t1\n\n太差\t0\n", encoding="utf-8")
    assert read_examples(path) == [Example("1", "很好"), Example("0", "太差")]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("1\t很好\n", "line 1 must name the columns label and text_a"),
        ("label\ttext_a\n1\t很好\n1很好\n", "line 3 has 1 fields, but the header names 2"),
        ("label\ttext_a\n1\t \n", "line 2 has an empty text"),
        ("label\ttext_a\n\t很好\n", "line 2 has an empty label"),
        ("label\ttext_a\n", "no example below the header"),
    ],
)
def test_a_bad_labelled_file_is_refused_with_its_line(tmp_path: Path, content: str, sentence: str) -> None:
    path = tmp_path / "train.tsv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=sentence) as caught:
        read_examples(path)
    assert "train.tsv" in str(caught.value)


def test_numeric_labels_sort_as_numbers() -> None:
    assert label_names([Example(label, "x") for label in ("10", "2", "1")]) == ["1", "2", "10"]


def test_overlap_ignores_case_width_punctuation_and_space() -> None:
    assert overlapping(["Ａ店，很 好！"], ["a店很好。", "b店很好", "！！"]) == [0]


@pytest.mark.skipif(not CHNSENTICORP.is_dir(), reason="ChnSentiCorp is not on this machine")
def test_the_published_overlap_of_chnsenticorp_is_found() -> None:
    texts = {
        part: [row.text for row in read_examples(CHNSENTICORP / f"{part}.tsv")] for part in ("train", "dev", "test")
    }
    assert len(overlapping(texts["train"], texts["test"])) == 335
    assert len(overlapping(texts["train"], texts["dev"])) == 342
