"""HTML tables: metrics of every class or entity type, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from training.reports import html_page
from training.reports.html_page import percent, section

MATRIX_CLASSES = 40
"""With more classes, the most frequent confusions are listed instead of the matrix."""
CONFUSIONS = 20
"""Number of confusions listed."""


def class_sections(where: str, figures: Mapping[str, Any], names: Sequence[str]) -> str:
    """Cards for the metrics of one part; empty for question answering. `where` ends the headings."""
    if "confusion" in figures:
        confusion = figures["confusion"]
        many = len(names) > MATRIX_CLASSES
        matrix = _confusions(names, confusion) if many else _matrix(names, confusion)
        heading = "Most frequent confusions" if many else "Confusion matrix"
        cards = section(f"{heading} {where}", matrix) + section(f"Classes {where}", _classes(names, confusion))
        return f'<div class="beside">{cards}</div>'
    if "labels" in figures:
        return section(f"Labels {where}", _labels(figures["labels"]))
    if "types" in figures:
        scores = [(kind, *(each[key] for key in SCORES), each["entities"]) for kind, each in figures["types"].items()]
        return section(f"Entity types {where}", _scores("type", "entities", scores))
    return ""


def _labels(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Scores of every label at the threshold, and the threshold that would give the highest F1."""
    columns = [("at the threshold", name) for name in ("precision", "recall", "F1")]
    columns += [("", "examples"), ("best on these examples", "threshold"), ("best on these examples", "F1")]
    rows = [
        (
            name,
            [
                *((percent(each[key]), False) for key in SCORES),
                (f"{each['examples']:,}", False),
                (f"{each['best_threshold']:.3f}", False),
                (percent(each["best_f1"]), False),
            ],
        )
        for name, each in figures.items()
    ]
    return html_page.grouped_table("label", columns, rows)


SCORES = ("precision", "recall", "f1")
Scored = tuple[str, "float | None", "float | None", float, int]
"""Name, precision, recall, F1, and number of labelled ones."""


def _scores(corner: str, counted: str, rows: Sequence[Scored]) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in (corner, "precision", "recall", "F1", counted))
    lines = (
        f'<tr><th scope="row">{escape(name)}</th>'
        f"{''.join(f'<td>{_share(score)}</td>' for score in scores)}<td>{count:,}</td></tr>"
        for name, *scores, count in rows
    )
    return (
        f'<div class="table" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _share(score: float | None) -> str:
    return "–" if score is None else percent(score)


def _classes(names: Sequence[str], confusion: Sequence[Sequence[int]]) -> str:
    """Precision, recall and F1 of every class; no precision if it was never predicted, no recall if it never occurs."""
    rows: list[Scored] = []
    for index, name in enumerate(names):
        hits, gold, predicted = confusion[index][index], sum(confusion[index]), sum(row[index] for row in confusion)
        f1 = 2 * hits / (gold + predicted) if gold + predicted else 0.0
        rows.append((name, hits / predicted if predicted else None, hits / gold if gold else None, f1, gold))
    return _scores("class", "examples", rows)


def _matrix(names: Sequence[str], confusion: Sequence[Sequence[int]]) -> str:
    """Rows are the correct labels, columns the predicted ones; a darker cell has a larger share of its row."""
    head = "".join(f'<th scope="col" title="{escape(name)}"><span>{escape(name)}</span></th>' for name in names)
    rows = []
    for index, (name, counts) in enumerate(zip(names, confusion, strict=True)):
        total = sum(counts) or 1
        cells = (
            f'<td class="{"hits" if index == other else "misses" if count else "none"}" '
            f'style="--share: {count / total:.3f}" '
            f'title="{escape(name)} → {escape(names[other])}: {percent(count / total)}">{count:,}</td>'
            for other, count in enumerate(counts)
        )
        rows.append(f'<tr><th scope="row" title="{escape(name)}">{escape(name)}</th>{"".join(cells)}</tr>')
    return (
        '<p class="hint">A row for each correct label, a column for each predicted one. The colour shows the share '
        "of the row: blue for correct predictions, orange for wrong ones.</p>"
        f'<div class="table matrix" tabindex="0"><table><thead><tr><td></td>{head}</tr></thead>\n'
        f"<tbody>{chr(10).join(rows)}</tbody></table></div>"
    )


def _confusions(names: Sequence[str], confusion: Sequence[Sequence[int]]) -> str:
    """The most frequent confusions."""
    pairs = [
        (count, name, names[other], count / sum(counts))
        for index, (name, counts) in enumerate(zip(names, confusion, strict=True))
        for other, count in enumerate(counts)
        if count and index != other
    ]
    rows = [
        (name, [(other, False), (f"{count:,}", False), (percent(share), False)])
        for count, name, other, share in sorted(pairs, key=lambda pair: -pair[0])[:CONFUSIONS]
    ]
    columns = [("", "predicted"), ("", "examples"), ("", "of the class")]
    return html_page.grouped_table("correct label", columns, rows) if rows else '<p class="hint">There are none.</p>'
