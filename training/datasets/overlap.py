"""Contamination: evaluation texts that stand in training text, compared after normalisation."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from native import ErnieTokenizer
from training.corpus.blending import parse_blend
from training.corpus.cleaning import clean
from training.corpus.indexed import IndexedCorpus
from training.corpus.settings import CorpusSettings
from training.corpus.verify import open_with_vocabulary
from training.datasets.examples import Question
from training.datasets.fingerprints import fingerprint, fingerprints
from training.datasets.texts import Row, read_texts, texts_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Overlap:
    """What of an evaluation set a model has seen in training."""

    counts: dict[str, int]
    """`texts` of the evaluation set and how many are `in_train`; of questions also what stands there apart:
    `contexts`, `contexts_in_train`, `questions_in_train`"""
    unseen: list[int]
    """indexes of the rows that are not in train"""


def overlap_report(train: Sequence[Row], evaluation: Sequence[Row]) -> Overlap:
    """Compares rows whole: a text, both texts of a pair, the tokens of a sentence, the context of a question.

    A question counts as seen where its context does: the same question on another context gives nothing away.
    """
    seen = {_mark(row) for row in train} - {""}
    unseen = [index for index, row in enumerate(evaluation) if _mark(row) not in seen]
    counts = {"texts": len(evaluation), "in_train": len(evaluation) - len(unseen)}
    if questions := [row for row in evaluation if isinstance(row, Question)]:
        contexts = {_mark(row) for row in questions}
        asked = fingerprints(row.question for row in train if isinstance(row, Question))
        counts["contexts"] = len(contexts)
        counts["contexts_in_train"] = len(contexts & seen)
        counts["questions_in_train"] = sum(fingerprint(row.question) in asked for row in questions)
    return Overlap(counts, unseen)


def _mark(row: Row) -> str:
    """What is the same for two rows whose texts are the same; empty where nothing is left to compare."""
    marks = [fingerprint(text) for text in texts_of(row)]
    return "\n".join(marks) if any(marks) else ""


def overlapping(training: Iterable[str], evaluation: Iterable[str]) -> list[int]:
    """Indexes of the evaluation texts that also stand in the training texts, whole text against whole text."""
    seen = fingerprints(training)
    return [index for index, text in enumerate(evaluation) if fingerprint(text) in seen]


def overlapping_corpora(corpora: Iterable[IndexedCorpus], vocab: Path, evaluation: Sequence[str]) -> list[int]:
    """As `overlapping`, for corpora as `corpus build` makes them of the vocabulary `vocab`.

    Both sides are compared token by token, so what the vocabulary has no token for does not tell texts apart.
    """
    tokenizer = ErnieTokenizer.from_file(vocab)
    marks = [fingerprint(token.removeprefix("##")) for token in tokenizer.tokens]
    numbers = {mark: number for number, mark in enumerate(dict.fromkeys(marks))}
    number_of = np.array([numbers[mark] for mark in marks], dtype=np.int32)
    meant = number_of != numbers.get("", -1)
    # Cleaned as the corpus was, if it was built with the default settings.
    cleaned = (clean(text, CorpusSettings.max_repeat, CorpusSettings.plain_width) for text in evaluation)
    encoded = (np.array(tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int64) for text in cleaned)
    said = [number_of[ids[meant[ids]]].tobytes() for ids in encoded]
    sought = set(said) - {b""}
    seen = {mark for corpus in corpora for mark in _documents(corpus, number_of, meant) if mark in sought}
    return [index for index, mark in enumerate(said) if mark in seen]


def _documents(corpus: IndexedCorpus, number_of: np.ndarray, meant: np.ndarray) -> Iterator[bytes]:
    """A digest-like string of each document: the numbers of its tokens, without those that are punctuation."""
    bounds = corpus.offsets[corpus.documents]
    for start, stop in itertools.pairwise(bounds):
        ids = corpus.tokens[start:stop]
        yield number_of[ids[meant[ids]]].tobytes()


def overlap_of(corpora: Sequence[str], vocab: Path, evaluation: Sequence[Path]) -> dict[str, dict[str, int]]:
    """How many texts of each evaluation file stand in the corpora, with a warning where there are any."""
    opened = [open_with_vocabulary(Path(prefix), vocab) for _, prefix in parse_blend(corpora)]
    counts: dict[str, dict[str, int]] = {}
    for path in evaluation:
        texts = read_texts(path)
        found = len(overlapping_corpora(opened, vocab, texts))
        counts[f"{path.absolute().parent.name}/{path.name}"] = {"texts": len(texts), "in_corpora": found}
        if found:
            log.warning("%d of the %d texts of %s stand in the corpora", found, len(texts), path)
    return counts
