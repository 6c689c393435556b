"""What the readers of labelled data give: one class a task, and the labels that a training set teaches."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from training.datasets.tag_schemes import Scheme, detect_scheme


@dataclass(frozen=True)
class Example:
    """Classification: one labelled text, or a pair of texts."""

    label: str
    text: str
    text_pair: str | None = None
    where: str = field(default="", compare=False, repr=False)
    """file and line, for errors"""


@dataclass(frozen=True)
class TaggedSentence:
    """Token classification: as many tags as tokens; in Chinese data a token is mostly one character."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    where: str = field(default="", compare=False, repr=False)
    """file and line, for errors"""


class Answer(NamedTuple):
    """An answer and the index of its first character in the context, None where the context does not hold it."""

    text: str
    start: int | None


@dataclass(frozen=True)
class Question:
    """Extractive question answering: every answer is right. One without a start counts in evaluation only."""

    id: str
    context: str
    question: str
    answers: tuple[Answer, ...]
    where: str = field(default="", compare=False, repr=False)
    """file, for errors"""


def label_names(examples: Sequence[Example]) -> list[str]:
    """The distinct labels, sorted: as numbers where all are numbers."""
    names = {example.label for example in examples}
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else sorted(names)


def tag_names(sentences: Sequence[TaggedSentence]) -> list[str]:
    """`O`, and every tag that the scheme of the sentences has for each of their entity types, seen or not.

    Raises ValueError where no sentence has an entity, or the tags belong to no scheme.
    """
    return ["O", *scheme_of(sentences).tags(_types(sentences))]


def scheme_of(sentences: Sequence[TaggedSentence]) -> Scheme:
    """The scheme of the tags. Raises ValueError, naming file and line of the first, for no entity and no scheme."""
    try:
        return detect_scheme(sentence.tags for sentence in sentences)
    except ValueError as error:
        where = sentences[0].where if sentences else ""
        raise ValueError(f"{where}: {error}" if where else str(error)) from None


def check_labels(
    train: Sequence[Example] | Sequence[TaggedSentence], evaluation: Sequence[Example] | Sequence[TaggedSentence]
) -> None:
    """Raises ValueError where train teaches nothing, or for the first row of `evaluation` with a label it has not."""
    tagged = [row for row in train if isinstance(row, TaggedSentence)]
    known = set(tag_names(tagged) if tagged else label_names([row for row in train if isinstance(row, Example)]))
    if len(known) < 2:
        named = f"{train[0].where or 'train'}: " if train else ""
        raise ValueError(
            f"{named}the training examples have {len(known)} label{'s' * (len(known) != 1)}"
            f"{''.join(f', {name},' for name in known)} but a classifier needs two or more."
        )
    check_known(known, evaluation, "train")


def check_kinds(parts: Mapping[str, Sequence[Any]]) -> None:
    """Raises ValueError where one part of a classification set has pairs and another single texts."""
    found = [(part, rows[0]) for part, rows in parts.items() if rows and isinstance(rows[0], Example)]
    for part, row in found:
        other, first = found[0]
        if (row.text_pair is None) != (first.text_pair is None):
            kinds = ("pairs", "single texts") if first.text_pair is None else ("single texts", "pairs")
            raise ValueError(f"{row.where or part}: {part} has {kinds[0]}, but {other} has {kinds[1]}.")


def check_known(known: Collection[str], rows: Sequence[Example] | Sequence[TaggedSentence], whose: str) -> None:
    """Raises ValueError for the first row with a label that is not `known`; `whose` labels these are."""
    for row in rows:
        for label in row.tags if isinstance(row, TaggedSentence) else (row.label,):
            if label not in known:
                raise ValueError(
                    f"{row.where or 'evaluation'}: {'tag' if isinstance(row, TaggedSentence) else 'label'} {label!r} "
                    f"is none of the {len(known)} that {whose} has: {', '.join(sorted(known)[:20])}."
                )


def _types(sentences: Sequence[TaggedSentence]) -> list[str]:
    return sorted({tag.partition("-")[2] for sentence in sentences for tag in sentence.tags if tag != "O"})
