"""A self-contained HTML page: frame and style, cards, tables, and formats of numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from model_build.atomic_write import atomic_file

SHARES = ("top1", "top5", "accuracy", "padding", "f1", "precision", "recall", "exact_match")
"""Suffixes of the names of figures that are shown as percentages."""
SERIES = 6
"""Number of curve colours in the style sheet: `series0`, `series1`, …"""


def write_page(path: Path, *, title: str, sections: Sequence[str], style: str = "") -> None:
    """Writes the page; a browser never sees an incomplete one. Raises WriteError.

    `sections` are HTML, empty ones are left out; `style` is added to the common style sheet.
    """
    page = PAGE.format(title=escape(title), style=STYLE + style, body="\n".join(filter(None, sections)))
    with atomic_file(path) as file:
        file.write(page)


def section(name: str, content: str, *, hidden: bool = False) -> str:
    """A card with a heading, which may be `hidden` except from screen readers; empty without content."""
    heading = f"<h2{' class=unseen' if hidden else ''}>{name}</h2>"
    return f'<section class="card">{heading}\n{content}</section>' if content else ""


def figures(figures: Sequence[tuple[str, str, str]]) -> str:
    """A list of figures, each with name, value and note as plain text."""
    cells = (
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"
        for name, value, note in figures
    )
    return f'<dl class="figures">{"".join(cells)}</dl>' if figures else ""


Row = tuple[str, Sequence[tuple[str, bool]]]
"""Name of the row, and for each cell its text and whether it is marked as the best."""


def grouped_table(corner: str, columns: Sequence[tuple[str, str]], rows: Sequence[Row]) -> str:
    """A table whose columns have a group and a name; columns of a group are adjacent. All arguments are plain text."""
    groups = [group for group, _ in columns]
    upper = "".join(
        f'<th colspan="{groups.count(group)}" scope="colgroup">{escape(group)}</th>' for group in dict.fromkeys(groups)
    )
    lower = "".join(f'<th scope="col">{escape(name)}</th>' for _, name in columns)
    lines = []
    for name, cells in rows:
        row = "".join(f"<td{' class=best' if best else ''}>{escape(text)}</td>" for text, best in cells)
        lines.append(f'<tr><th scope="row">{escape(name)}</th>{row}</tr>')
    return (
        '<div class="table" tabindex="0"><table><thead>'
        f'<tr><th rowspan="2" scope="col">{escape(corner)}</th>{upper}</tr><tr>{lower}</tr></thead>\n'
        f"<tbody>{chr(10).join(lines)}</tbody></table></div>"
    )


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as pairs of a dotted name and a value."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def settings_table(settings: Mapping[str, Any]) -> str:
    """A table of names and values; empty without settings."""
    rows = (
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(str(value))}</td></tr>' for name, value in settings.items()
    )
    return f'<table class="settings"><tbody>{"".join(rows)}</tbody></table>' if settings else ""


def words(name: str) -> str:
    """ "word/mlm_loss" -> "word mlm loss" """
    return name.replace("/", " ").replace("_", " ")


def finite(value: Any) -> bool:
    """Whether the value is a finite number."""
    return value is not None and math.isfinite(value)


def shown(name: str, value: Any) -> str:
    """A figure in the format of its name: percentage, count, or four digits."""
    if not finite(value):
        return "not finite"
    if name.endswith(SHARES):
        return percent(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.4g}"


def percent(share: float) -> str:
    """0.5 -> "50.0 %" """
    return f"{100 * share:.1f} %" if math.isfinite(share) else "–"


def short(value: float) -> str:
    """1200000 -> 1.2M"""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}"


STYLE = """\
:root {
  color-scheme: light dark;
  --paper: #f4f5f8; --card: #fff; --ink: #1b2130; --soft: #5b6478; --line: #d9dde6; --fill: #eef1f7;
  --mark: #8a4b00; --mark-soft: #fdf0dc; --good: #14683a; --good-soft: #dcf3e4; --bad: #a6232c; --bad-soft: #fdecec;
  --series0: #2f5fd0; --series1: #d9480f; --series2: #2a9d8f;
  --series3: #9c36b5; --series4: #b88700; --series5: #5b6478;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #10131a; --card: #181d27; --ink: #e8ebf2; --soft: #9aa4b8; --line: #2d3545; --fill: #222938;
    --mark: #ffc46b; --mark-soft: #3a2f1c; --good: #7ddba3; --good-soft: #173626; --bad: #ff9c9c; --bad-soft: #3a1f24;
    --series0: #86a8ff; --series1: #ff8f5e; --series2: #45c4b4;
    --series3: #d58bea; --series4: #e6be4d; --series5: #9aa4b8;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; max-width: 1080px; padding: 0 16px 32px; background: var(--paper); color: var(--ink);
  font: 16px/1.6 system-ui, "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "Noto Sans SC", sans-serif;
}
h1, h2, h3, p, dl, dd, ul, ol, figure { margin: 0; padding: 0; }
h1 { font-size: 1.3rem; line-height: 1.3; padding: 22px 0 18px; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin-bottom: 12px; }
h3 { font-size: .85rem; font-weight: 600; color: var(--soft); margin: 18px 0 8px; }
small { color: var(--soft); font-size: .8em; font-weight: 400; }
.card {
  min-width: 0; margin-bottom: 18px; padding: 20px;
  background: var(--card); border: 1px solid var(--line); border-radius: 14px;
}
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.hint { padding-bottom: 12px; line-height: 1.9; }
.hint, details summary, figcaption { color: var(--soft); font-size: .86rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(136px, 1fr)); gap: 14px 18px; }
.figures dt { color: var(--soft); font-size: .82rem; line-height: 1.3; }
.figures dd { font-size: 1.15rem; font-weight: 600; line-height: 1.4; font-variant-numeric: tabular-nums; }
.figures small { display: block; font-size: .78rem; line-height: 1.3; }
.charts { display: grid; column-gap: 18px; }
@media (min-width: 760px) { .charts { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); } }
figure { display: flex; flex-direction: column; justify-content: space-between; }
figcaption h2 { color: var(--ink); margin-bottom: 2px; }
figcaption ul { display: flex; flex-wrap: wrap; gap: 0 14px; list-style: none; margin-bottom: 8px; }
figcaption i {
  display: inline-block; width: 14px; height: 4px; margin-right: 6px; border-radius: 2px; vertical-align: middle;
}
svg { display: block; width: 100%; height: auto; stroke-linejoin: round; font-family: inherit; }
svg text { fill: var(--soft); }
.table { overflow: auto; max-height: 36em; }
article .table { max-height: none; }
thead { position: sticky; top: 0; z-index: 1; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 8px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
thead th { vertical-align: bottom; line-height: 1.3; white-space: normal; }
thead th { background: var(--card); color: var(--soft); font-weight: 600; }
thead th[colspan] { text-align: center; }
th:first-child { position: sticky; left: 0; background: var(--card); }
.best { font-weight: 700; color: var(--good); }
article { padding: 14px 0 6px; border-top: 1px solid var(--line); }
article dl { display: grid; grid-template-columns: 5em minmax(0, 1fr); gap: 2px 8px; }
article dt { color: var(--soft); font-size: .82rem; line-height: 2.1rem; }
article dd { line-height: 2.1rem; overflow-wrap: anywhere; white-space: pre-wrap; }
article span, .hint span { padding: 2px 4px; margin: 0 1px; border-radius: 5px; }
.masked, .replaced, .kept { background: var(--mark-soft); color: var(--mark); }
.masked { font-size: .72em; line-height: 1; }
.replaced { text-decoration: underline wavy 1px; }
.right { background: var(--good-soft); color: var(--good); }
.wrong { background: var(--bad-soft); color: var(--bad); }
.wrong ins { margin-left: 4px; color: var(--ink); text-decoration: none; font-weight: 700; }
details summary { cursor: pointer; padding: 6px 0; }
details td, details th { text-align: left; }
details ol { display: flex; flex-wrap: wrap; gap: 0 16px; list-style: none; }
details td:last-child { white-space: normal; width: 100%; }
.hit { color: var(--good); font-weight: 700; }
.settings { width: 100%; table-layout: fixed; }
.settings th, .settings td { text-align: left; white-space: normal; overflow-wrap: anywhere; vertical-align: top; }
.settings th { width: 40%; font-weight: 400; color: var(--soft); padding-left: 0; }
@media (max-width: 480px) {
  body { padding: 0 12px 24px; }
  .card { padding: 16px; }
  article dl { grid-template-columns: minmax(0, 1fr); }
  article dt { line-height: 1.4; margin-top: 6px; }
}
"""
PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<header><h1>{title}</h1></header>
<main>
{body}
</main>
</body>
</html>
"""
