"""Labelled examples, one class per task, and the labels of a training set."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from training.datasets.tag_schemes import Scheme, detect_scheme

TaskName = Literal["classify", "token-classification", "question-answering"]
"""The task that examples are for: `Example`, `TaggedSentence`, `Question`."""


def _check_visible(where: str, **texts: str | None) -> None:
    """Raises ValueError, which names the place, for a text of which the tokenizer removes every character."""
    for name, text in texts.items():
        if text is not None and not has_visible(text):
            raise ValueError(
                f"{where or 'an example'}: the {name} {text[:20]!a} has no visible character, so no token is left; "
                "correct or remove it."
            )


def has_visible(text: str) -> bool:
    """Whether the text has a visible character; otherwise no token is left of it."""
    return any(map(_is_visible, text))


def _is_visible(character: str) -> bool:
    category = unicodedata.category(character)
    return not (category[0] in "CZ" or category == "Mn" or character == "\ufffd")


@dataclass(frozen=True)
class Example:
    """Classification: one labelled text, or a pair of texts."""

    label: str
    text: str
    text_pair: str | None = None
    where: str = field(default="", compare=False, repr=False)
    """file and line, for errors"""

    def __post_init__(self) -> None:
        """Raises ValueError if a text has no visible character."""
        _check_visible(self.where, text=self.text, text_pair=self.text_pair)


@dataclass(frozen=True)
class MultiLabelExample(Example):
    """Multi-label classification: `label` is the text of the file, `labels` are the labels in it, maybe none."""

    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaggedSentence:
    """Token classification: one tag per token; in Chinese data a token is usually one character."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    where: str = field(default="", compare=False, repr=False)
    """file and line, for errors"""

    def __post_init__(self) -> None:
        """Raises ValueError if the sentence has no visible character."""
        _check_visible(self.where, sentence="".join(self.tokens))


class Answer(NamedTuple):
    """An answer, and the index of its first character in the context; None if it does not occur there."""

    text: str
    start: int | None


@dataclass(frozen=True)
class Question:
    """Extractive question answering: each answer is correct. An answer without start is used only in evaluation."""

    id: str
    context: str
    question: str
    answers: tuple[Answer, ...]
    where: str = field(default="", compare=False, repr=False)
    """file, for errors"""

    def __post_init__(self) -> None:
        """Raises ValueError if the context has no visible character. Questions are checked where they are read."""
        _check_visible(self.where, context=self.context)


def labels_of(example: Example) -> tuple[str, ...]:
    """The labels of an example: one, or for multi-label examples any number."""
    return example.labels if isinstance(example, MultiLabelExample) else (example.label,)


def label_names(examples: Sequence[Example]) -> list[str]:
    """The distinct labels, sorted; as numbers if all labels are numbers."""
    names = {label for example in examples for label in labels_of(example)}
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else sorted(names)


def tag_names(sentences: Sequence[TaggedSentence]) -> list[str]:
    """`O`, and all tags of the scheme for each entity type of the sentences, including tags that do not occur.

    Raises ValueError if no sentence has an entity, or if the tags belong to no known scheme.
    """
    return ["O", *scheme_of(sentences).tags(_types(sentences))]


def scheme_of(sentences: Sequence[TaggedSentence]) -> Scheme:
    """The scheme of the tags. Raises ValueError, which names file and line, without an entity or a known scheme."""
    try:
        return detect_scheme(sentence.tags for sentence in sentences)
    except ValueError as error:
        where = sentences[0].where if sentences else ""
        raise ValueError(f"{where}: {error}" if where else str(error)) from None


def check_labels(
    train: Sequence[Example] | Sequence[TaggedSentence], evaluation: Sequence[Example] | Sequence[TaggedSentence]
) -> None:
    """Raises ValueError if train has fewer than two labels, or for a row of `evaluation` with an unknown label."""
    tagged = [row for row in train if isinstance(row, TaggedSentence)]
    known = set(tag_names(tagged) if tagged else label_names([row for row in train if isinstance(row, Example)]))
    if len(known) < 2:
        named = f"{train[0].where or 'train'}: " if train else ""
        raise ValueError(
            f"{named}the training examples have {len(known)} label{'s' * (len(known) != 1)}"
            f"{''.join(f', {name},' for name in known)} but a classifier needs at least two."
        )
    check_known(known, evaluation, "train")


def check_kinds(parts: Mapping[str, Sequence[Any]]) -> None:
    """Raises ValueError if one part of a classification set has pairs of texts and another one single texts."""
    found = [(part, rows[0]) for part, rows in parts.items() if rows and isinstance(rows[0], Example)]
    for part, row in found:
        other, first = found[0]
        if (row.text_pair is None) != (first.text_pair is None):
            kinds = ("pairs", "single texts") if first.text_pair is None else ("single texts", "pairs")
            raise ValueError(
                f"{row.where or part}: {part} has {kinds[0]}, but {other} has {kinds[1]}; give all parts the same kind."
            )


def check_known(known: Collection[str], rows: Sequence[Example] | Sequence[TaggedSentence], whose: str) -> None:
    """Raises ValueError for the first row with a label that is not `known`; `whose` names the owner of the labels."""
    for row in rows:
        for label in row.tags if isinstance(row, TaggedSentence) else labels_of(row):
            if label not in known:
                raise ValueError(
                    f"{row.where or 'evaluation'}: {'tag' if isinstance(row, TaggedSentence) else 'label'} {label!r} "
                    f"is not among the {len(known)} of {whose}: {', '.join(sorted(known)[:20])}."
                )


def _types(sentences: Sequence[TaggedSentence]) -> list[str]:
    return sorted({tag.partition("-")[2] for sentence in sentences for tag in sentence.tags if tag != "O"})
