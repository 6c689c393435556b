"""Corpora: what is read, and how bad files are refused."""

import logging
from pathlib import Path

import pytest

from training.corpus.plain_text import is_held_out, read_corpus, read_documents


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
    assert "skipped 1 lines" in caplog.text
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
