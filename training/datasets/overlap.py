"""Overlap (contamination): evaluation texts that also occur in training text, compared by fingerprint."""

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
from training.corpus.verify import open_with_vocabulary, tokenizer_of
from training.datasets.examples import Question
from training.datasets.fingerprints import fingerprint, fingerprints
from training.datasets.texts import Row, read_texts, texts_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Overlap:
    """The part of an evaluation set that the training set contains."""

    counts: dict[str, int]
    """`texts`: rows of the evaluation set; `in_train`: those that occur in train. For questions also `contexts`,
    `contexts_in_train` and `questions_in_train`"""
    unseen: list[int]
    """indexes of the rows that do not occur in train"""


def overlap_report(train: Sequence[Row], evaluation: Sequence[Row]) -> Overlap:
    """Compares whole rows: a text, both texts of a pair, the tokens of a sentence, the context of a question.

    A question counts as seen if its context occurs in train: the same question about another context reveals nothing.
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
    """The fingerprint of a row; empty if its texts have no letter or digit."""
    marks = [fingerprint(text) for text in texts_of(row)]
    return "\n".join(marks) if any(marks) else ""


def overlapping(training: Iterable[str], evaluation: Iterable[str]) -> list[int]:
    """Indexes of the evaluation texts that also occur in the training texts; whole texts are compared."""
    seen = fingerprints(training)
    return [index for index, text in enumerate(evaluation) if fingerprint(text) in seen]


def overlapping_corpora(corpora: Iterable[IndexedCorpus], vocab: Path, evaluation: Sequence[str]) -> list[int]:
    """Like `overlapping`, for corpora that `corpus build` made with the vocabulary `vocab`.

    Texts are compared token by token, so texts that differ only in characters without a token count as equal. The
    texts are read with the tokenizer rules of the corpora. Raises CorpusError if these differ.
    """
    opened = list(corpora)
    how = tokenizer_of(opened)
    tokenizer = ErnieTokenizer.from_file(vocab, rules=how.rules, fold_width=how.fold_width)
    marks = [fingerprint(token.removeprefix("##")) for token in tokenizer.tokens]
    numbers = {mark: number for number, mark in enumerate(dict.fromkeys(marks))}
    number_of = np.array([numbers[mark] for mark in marks], dtype=np.int32)
    is_word = number_of != numbers.get("", -1)
    # Runs of one character are cut as in a corpus that was built with the default settings.
    cleaned = (clean(text, CorpusSettings.max_repeat, how.fold_width) for text in evaluation)
    encoded = (tokenizer.encode_flat([text])[0] for text in cleaned)
    encodings = [number_of[ids[is_word[ids]]].tobytes() for ids in encoded]
    sought = set(encodings) - {b""}
    seen = {mark for corpus in opened for mark in _documents(corpus, number_of, is_word) if mark in sought}
    return [index for index, mark in enumerate(encodings) if mark in seen]


def _documents(corpus: IndexedCorpus, number_of: np.ndarray, is_word: np.ndarray) -> Iterator[bytes]:
    """For each document the bytes of its token numbers, without punctuation."""
    bounds = corpus.offsets[corpus.documents]
    for start, stop in itertools.pairwise(bounds):
        ids = corpus.tokens[start:stop]
        yield number_of[ids[is_word[ids]]].tobytes()


def overlap_of(corpora: Sequence[str], vocab: Path, evaluation: Sequence[Path]) -> dict[str, dict[str, int]]:
    """Counts the texts of each evaluation file that occur in the corpora, and logs a warning if there are any."""
    opened = [open_with_vocabulary(Path(prefix), vocab) for _, prefix in parse_blend(corpora)]
    counts: dict[str, dict[str, int]] = {}
    for path in evaluation:
        texts = read_texts(path)
        found = len(overlapping_corpora(opened, vocab, texts))
        counts[f"{path.absolute().parent.name}/{path.name}"] = {"texts": len(texts), "in_corpora": found}
        if found:
            log.warning("%d of the %d texts of %s occur in the corpora", found, len(texts), path)
    return counts
