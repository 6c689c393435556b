"""Vocabularies: what is counted, in which order, and what they cover."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from native import ErnieTokenizer
from training.cli import ernie_train as cli
from training.corpus import vocabulary
from training.corpus.settings import VocabularySettings
from training.corpus.vocabulary import (
    FIXED,
    SPECIAL_TOKENS,
    Counts,
    build_vocabulary,
    coverage,
    fold,
    vocabulary_from_files,
    write_vocabulary,
)

ALL = VocabularySettings(size=1000, min_count=1)


def test_specials_come_first_then_pieces_words_and_characters_by_frequency() -> None:
    tokens = build_vocabulary(["NBA nba 中中国", "ok é"], ALL)
    assert tokens[: len(FIXED)] == list(FIXED)
    assert tokens[:5] == list(SPECIAL_TOKENS)
    assert "nba" in tokens
    assert "ok" not in tokens  # seen once only
    assert tokens.index("nba") < tokens.index("中") < tokens.index("国")
    assert "é" not in tokens  # its accent is taken off before it is looked up
    assert len(tokens) == len(set(tokens))


def test_subwords_are_learnt_with_their_place_in_the_word() -> None:
    words = ["learning", "learner", "burning", "turning"]
    tokens = build_vocabulary([" ".join(words * 20)], VocabularySettings(size=400, subwords=60, min_count=1))
    assert {"learning", "##rning", "lea"} <= set(tokens)
    assert not {"rning", "##learning"} & set(tokens)


def test_a_vocabulary_too_small_for_its_fixed_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="needs at least 77"):
        build_vocabulary(["中"], VocabularySettings(size=10))


def test_the_size_is_a_limit_and_characters_keep_most_of_the_room() -> None:
    text = "".join(chr(0x4E00 + number) * 2 for number in range(500)) + " the word here " * 30
    tokens = build_vocabulary([text], VocabularySettings(size=177))
    assert len(tokens) == 177
    assert sum(token >= "\u4e00" for token in tokens) >= 75


def test_rare_characters_are_left_out_and_the_whole_range_can_be_had() -> None:
    assert "国" not in build_vocabulary(["中中国"], VocabularySettings(size=100))
    tokens = build_vocabulary(["中中国"], VocabularySettings(size=30_000, all_cjk=True))
    assert len(tokens) == len(FIXED) + 20_902
    assert tokens[len(FIXED)] == "中"
    assert tokens[-1] == "\u9fa5"


def test_words_of_any_script_can_be_put_together_from_pieces(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    write_vocabulary(path, build_vocabulary(["こんにちは 안녕하세요 привет 中国 25℃"], ALL))
    report = coverage(path, ["Xq7zzz ちこ 녕안 тивер 国中 こ2℃"])
    assert report["unknown_rate"] == 0
    assert coverage(path, ["鑫"])["unknown_rate"] == 1
    assert coverage(path, ["鑫 中"])["most_missed"] == "鑫"
    assert coverage(path, ["鑫 中"])["covered_characters"] == 0.5


def test_words_are_the_runs_that_the_tokenizer_looks_up() -> None:
    counts = Counts()
    counts.add("Hello, world!hello中国abc 25℃\u3000x y\u200bz「とき」")
    assert counts.folded()[1] == Counter({"hello": 2, "world": 1, "abc": 1, "25℃": 1, "とき": 1})
    assert fold("Éa") == "ea"


def test_counting_stays_within_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "WORDS_COUNTED", 100)
    counts = Counts()
    for number in range(1000):
        counts.add(f"frequent w{number:05}x")
    assert len(counts.words) <= 100
    assert counts.words["frequent"] == 1000


def test_files_of_all_kinds_are_counted_and_held_out_documents_judge(tmp_path: Path) -> None:
    documents = [f"第{number}篇文章说的是天气。" for number in range(3000)]
    (tmp_path / "a.txt").write_text("\n\n".join(documents[:1500]), encoding="utf-8")
    lines = "\n".join(json.dumps({"text": each}) for each in documents[1500:])
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    output = tmp_path / "vocab.txt"
    report = vocabulary_from_files([tmp_path], output, VocabularySettings(size=300))
    assert 10 < report["held_out_documents"] < 60
    assert report["covered_characters"] == 1
    assert report["unknown_rate"] == 0
    assert report["tokens"] == ErnieTokenizer.from_file(output).vocab_size


def test_text_without_a_document_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    command = ["vocab", "build", str(tmp_path / "empty.txt"), "--output", str(tmp_path / "vocab.txt")]
    assert cli.main(command) == 2
    assert "there is no text in" in capsys.readouterr().err
    assert not (tmp_path / "vocab.txt").exists()
