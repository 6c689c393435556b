"""Wrong predictions as HTML: texts with marks for correct and predicted labels, entities and answers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from training.datasets.examples import Example, MultiLabelExample, Question, TaggedSentence
from training.datasets.tag_schemes import SCHEMES, Scheme
from training.reports.detokenization import needs_space
from training.reports.error_analysis import (
    Entity,
    Misanswered,
    Misclassified,
    Mistagged,
    excerpts,
    misanswered,
    misclassified,
    mistagged,
)
from training.reports.html_page import percent

WORST = 20
"""Number of wrong predictions shown."""
CHARACTERS = 300
"""Characters shown of a text; the rest is folded."""
MARGIN = 50
"""Tokens or characters shown around a mark."""
CANDIDATES = 5
"""Number of labels shown with scores per wrong prediction."""
NOTHING = '<p class="hint">There are none: every prediction is correct.</p>'


def wrong_predictions(
    results: Mapping[str, Any],
    examples: Sequence[Any],
    predictions: Sequence[Mapping[str, Any]],
    labels: Mapping[str, str],
) -> str:
    """The number of wrong predictions, and the worst of them.

    `results` (results.json) gives the task and the tagging scheme; `labels` maps the labels to display names.
    """
    task = results["task"]
    if results.get("multi_label"):
        return _mislabelled(examples, predictions)
    if task == "classify":
        return _misclassified(examples, predictions, labels)
    if task == "token-classification":
        return _mistagged(examples, predictions, SCHEMES[results["scheme"]])
    return _misanswered(examples, predictions)


def _misclassified(
    examples: Sequence[Example], predictions: Sequence[Mapping[str, Any]], labels: Mapping[str, str]
) -> str:
    found = misclassified(examples, predictions)
    hint = "The most confident first."
    return _listed(found, len(examples), hint, lambda each: _misclassified_one(each, labels))


def _misclassified_one(each: Misclassified, labels: Mapping[str, str]) -> str:
    shown_scores = list(each.scores.items())[:CANDIDATES]
    if each.example.label not in dict(shown_scores):
        shown_scores.append((each.example.label, each.scores[each.example.label]))
    scores = "".join(
        f"<li{' class=hit' if label == each.example.label else ''}>{escape(labels[label])} "
        f"<small>{percent(score)}</small></li>"
        for label, score in shown_scores
    )
    right = f'<span class="right">{escape(labels[each.example.label])}</span>'
    wrong = f'<span class="wrong">{escape(labels[each.predicted])}</span>'
    lines = [("text", _text(each.example.text))]
    if each.example.text_pair is not None:
        lines.append(("second text", _text(each.example.text_pair)))
    lines += [
        ("label", f"{right} <small>predicted</small> {wrong}"),
        ("scores", f"<ol>{scores}</ol>"),
    ]
    return _article(lines)


def _mislabelled(examples: Sequence[MultiLabelExample], predictions: Sequence[Mapping[str, Any]]) -> str:
    """Texts with missed or wrongly predicted labels, those with the most first."""
    pairs = [(each, set(given["labels"])) for each, given in zip(examples, predictions, strict=True)]
    found = sorted(
        ((example, given) for example, given in pairs if given != set(example.labels)),
        key=lambda pair: -len(pair[1] ^ set(pair[0].labels)),
    )
    hint = (
        'The most errors first. <span class="right">Correct</span>, <span class="missed">missed</span>, '
        '<span class="wrong">wrongly predicted</span>.'
    )
    return _listed(found, len(examples), hint, _mislabelled_one)


def _mislabelled_one(pair: tuple[MultiLabelExample, set[str]]) -> str:
    example, given = pair
    gold = set(example.labels)
    marks = [(name, "right" if name in given else "missed") for name in example.labels]
    marks += [(name, "wrong") for name in sorted(given - gold)]
    shown = " ".join(f'<span class="{kind}">{escape(name)}</span>' for name, kind in marks)
    lines = [("text", _text(example.text))]
    if example.text_pair is not None:
        lines.append(("second text", _text(example.text_pair)))
    return _article([*lines, ("labels", shown)])


def _text(text: str) -> str:
    """The beginning of a text, with the rest folded."""
    if len(text) <= CHARACTERS + CHARACTERS // 10:
        return escape(text)
    rest = text[CHARACTERS:]
    return (
        f"{escape(text[:CHARACTERS])}<details><summary>{len(rest):,} more characters</summary>{escape(rest)}</details>"
    )


def _mistagged(sentences: Sequence[TaggedSentence], predictions: Sequence[Mapping[str, Any]], scheme: Scheme) -> str:
    found = mistagged(sentences, predictions, scheme)
    hint = (
        'The sentences with the most errors first. <span class="right">Found</span>, '
        '<span class="missed">missed</span>, <span class="wrong">wrongly found</span>.'
    )
    return _listed(found, len(sentences), hint, _mistagged_one)


def _mistagged_one(each: Mistagged) -> str:
    tokens = each.sentence.tokens
    pieces = [f"{' ' * _spaced(before, token)}{token}" for before, token in itertools.pairwise(("", *tokens))]
    windows = excerpts([(start, stop) for start, stop, _ in each.missed | each.wrong], len(tokens), MARGIN)
    labelled = _marks(each.right, "right") + _marks(each.missed, "missed")
    predicted = _marks(each.right, "right") + _marks(each.wrong, "wrong")
    return _article(
        [
            ("labelled", _marked(pieces, labelled, windows)),
            ("predicted", _marked(pieces, predicted, windows)),
        ]
    )


def _spaced(before: str, token: str) -> bool:
    """Whether there is a space between two tokens; not if the tokens are single characters."""
    return needs_space(before, token) and len(before) + len(token) > 2


Mark = tuple[int, int, str, str]
"""Start, end, CSS class, and a note after the mark."""


def _marks(found: set[Entity], kind: str) -> list[Mark]:
    return [(start, stop, kind, entity) for start, stop, entity in found]


def _marked(pieces: Sequence[str], marks: Sequence[Mark], windows: Sequence[tuple[int, int]]) -> str:
    """Windows of a text, with marks that do not overlap; `pieces` are its tokens or characters."""
    parts = []
    for begin, end in windows:
        at = begin
        parts.append("…" if begin else "")
        for start, stop, kind, note in sorted(marks):
            start, stop = max(start, at), min(stop, end)
            if start < stop:
                small = f"<small>{escape(note)}</small>" if note else ""
                parts.append(escape("".join(pieces[at:start])))
                parts.append(f'<span class="{kind}">{escape("".join(pieces[start:stop]))}{small}</span>')
                at = stop
        parts.append(escape("".join(pieces[at:end])))
        parts.append("… " if end < len(pieces) else "")
    return "".join(parts)


def _misanswered(questions: Sequence[Question], predictions: Sequence[Mapping[str, Any]]) -> str:
    hint = (
        'The lowest F1 first, then the highest score. Marks in the context: <span class="right">correct and given'
        '</span>, <span class="missed">correct but not given</span>, <span class="wrong">given but not correct'
        "</span>."
    )
    return _listed(misanswered(questions, predictions), len(questions), hint, _misanswered_one)


def _misanswered_one(each: Misanswered) -> str:
    question = each.question
    gold = [(answer.start, answer.start + len(answer.text)) for answer in question.answers if answer.start is not None]
    given = (each.start, each.start + len(each.answer))
    windows = excerpts([*gold, given], len(question.context), MARGIN)
    right = "".join(
        f'<span class="right">{escape(text)}</span>' for text in dict.fromkeys(a.text for a in question.answers)
    )
    score = "" if each.score is None else f", score {each.score:.1f}"
    answer = f'<span class="wrong">{escape(each.answer)}</span>' if each.answer else "none"
    return _article(
        [
            ("question", _text(question.question)),
            ("context", _marked(question.context, _answer_marks(gold, given), windows)),
            ("right", right),
            ("given", f"{answer} <small>F1 {percent(each.f1)}{score}</small>"),
        ]
    )


def _answer_marks(gold: Sequence[tuple[int, int]], given: tuple[int, int]) -> list[Mark]:
    """Spans of correct answers and of the given one, which may overlap, as marks that do not overlap."""
    marks: list[Mark] = []
    for start, stop in itertools.pairwise(sorted({bound for span in (*gold, given) for bound in span})):
        expected = any(first <= start and stop <= last for first, last in gold)
        said = given[0] <= start and stop <= given[1]
        kind = "right" if expected and said else "missed" if expected else "wrong" if said else ""
        if marks and marks[-1][1:3] == (start, kind):
            start = marks.pop()[0]
        marks.append((start, stop, kind, ""))
    return [mark for mark in marks if mark[2]]


def _listed(found: Sequence[Any], total: int, hint: str, one: Callable[[Any], str]) -> str:
    """The number of wrong predictions, and the first of them."""
    if not found:
        return NOTHING
    few = f"; the first {WORST}" if len(found) > WORST else ""
    count = f"{len(found):,} of {total:,}{few}."
    return f'<p class="hint">{count} {hint}</p>' + "\n".join(map(one, found[:WORST]))


def _article(lines: Sequence[tuple[str, str]]) -> str:
    return f"<article><dl>{''.join(f'<dt>{name}</dt><dd lang=zh>{line}</dd>' for name, line in lines)}</dl></article>"
