"""Reading inputs: kinds of files, what is left out and counted, and shards."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from training.corpus import inputs as sources
from training.corpus.indexed import CorpusError
from training.corpus.inputs import Piece, Reader, divide, find_inputs

Write = Callable[..., Path]


def read(path: Path, by_line: bool = False, key: str = "text") -> tuple[list[str], Reader]:
    reader = Reader(by_line, key)
    return list(reader.documents(Piece(path, 0, path.stat().st_size))), reader


def test_a_blank_line_or_each_line_ends_a_document(write_text: Write) -> None:
    path = write_text("\ufeff一\r\n二\r\n\r\n　\r\n三\r\n")
    assert read(path)[0] == ["一\n二", "三"]
    assert read(path, by_line=True)[0] == ["一", "二", "三"]


@pytest.mark.parametrize("name", ["t.txt.gz", "t.txt.zst"])
def test_compressed_files_read_like_plain_ones(write_text: Write, name: str) -> None:
    pack = gzip.compress if name.endswith("gz") else zstandard.compress
    # Two members, as appending to a compressed file makes them.
    assert read(write_text(pack("一\n\n".encode()) + pack("二".encode()), name))[0] == ["一", "二"]


def test_lines_that_are_not_utf8_are_left_out_counted_and_placed(write_text: Write) -> None:
    path = write_text("好\n".encode() + "中文\n".encode("gbk") + "坏\n".encode())
    texts, reader = read(path)
    assert texts == ["好\n坏"]
    assert reader.faults.counts == {"not_utf8": 1}
    assert reader.faults.places == {"not_utf8": [f"{path}: byte 4"]}


def test_bad_json_lines_are_left_out_counted_and_placed(write_text: Write) -> None:
    rows = ['{"text": "一"}', "{", "[1]", '{"other": "x"}', '{"text": 5}', '{"text": "\\ud800"}', '{"text": "二\\n三"}']
    texts, reader = read(write_text("\n".join(rows) + "\n" + "[" * 100_000, "t.jsonl"))
    assert texts == ["一", "二\n三"]
    assert reader.faults.counts == {"not_json": 3, "no_text": 2, "not_utf8": 1}
    assert reader.faults.places["not_json"][0].endswith("t.jsonl: byte 16")


@pytest.mark.parametrize("name", ["t.txt.gz", "t.txt.zst"])
@pytest.mark.parametrize("damage", [lambda data: data[: len(data) * 2 // 3], lambda data: data[:-40] + bytes(40)])
def test_a_damaged_compressed_file_gives_what_comes_before_the_damage(
    write_text: Write, name: str, damage: Callable[[bytes], bytes]
) -> None:
    import random

    lines = "\n".join(f"{random.Random(number).random()}" for number in range(200_000))
    pack = gzip.compress if name.endswith("gz") else zstandard.compress
    texts, reader = read(write_text(damage(pack(lines.encode())), name), by_line=True)
    assert texts == lines.split("\n")[: len(texts)]
    assert reader.faults.counts == {"broken_compression": 1}
    assert name in reader.faults.places["broken_compression"][0]


def test_a_line_without_end_is_skipped_and_a_document_without_end_is_cut(
    write_text: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "READ", 1000)
    monkeypatch.setattr(sources, "MAX_LINE", 5000)
    monkeypatch.setattr(sources, "MAX_DOCUMENT", 400)
    texts, reader = read(write_text("好\n\n" + "x" * 20_000 + "\n\n坏\n\n" + "行\n" * 1000))
    assert reader.faults.counts == {"long_line": 1}
    assert texts[:2] == ["好", "坏"]
    assert "".join(texts[2:]).replace("\n", "") == "行" * 1000
    assert max(map(len, texts)) <= 1000
    assert reader.cut_documents


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["中文字", "a", "", " ", "好\r"]), max_size=40), st.integers(1, 30), st.booleans())
def test_shards_hold_the_documents_of_the_file_in_order_wherever_they_are_cut(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], shard_bytes: int, by_line: bool
) -> None:
    path = tmp_path_factory.mktemp("shards") / "text.txt"
    path.write_bytes("\n".join(lines).encode())
    whole = read(path, by_line)[0]
    shards = divide([path], by_line, shard_bytes)
    reader = Reader(by_line, "text")
    assert [text for pieces in shards for piece in pieces for text in reader.documents(piece)] == whole
    assert reader.text_bytes == path.stat().st_size


def test_small_files_share_a_shard_and_big_ones_are_cut(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.txt").write_text("字\n\n" * (3 if number < 3 else 60), encoding="utf-8")
    shards = divide(find_inputs([tmp_path]), False, 100)
    assert [piece.path.name for piece in shards[0]] == ["0.txt", "1.txt", "2.txt", "3.txt"]
    assert [len(pieces) for pieces in shards[1:]] == [1] * (len(shards) - 1)
    assert len(shards) >= 3


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("absent.txt", "does not exist"), ("a.pdf", "unknown suffix"), ("empty", "contains no text file")],
)
def test_inputs_that_cannot_be_read_are_refused_by_name(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "a.pdf").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=sentence) as caught:
        find_inputs([tmp_path / name])
    assert name in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["t.txt", "t.jsonl", "t.txt.gz", "t.jsonl.zst"]))
def test_no_bytes_whatever_stop_the_reader(tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str) -> None:
    path = tmp_path_factory.mktemp("fuzz") / name
    path.write_bytes(data)
    for text in read(path)[0]:
        assert text.strip()
        json.dumps(text).encode("utf-8")
