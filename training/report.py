"""A run as one page: curves, evaluations, sentences filled in, settings. An HTML file that needs nothing beside it."""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from training.corpus.output import naming
from training.fillings import Filling, Guess, bare, written

POINTS = 400
"""Stretches into which a long curve is cut; the lowest and the highest value of each are drawn."""


@dataclass(frozen=True)
class Chart:
    """What is drawn over the steps."""

    title: str
    curve: str = ""
    """scalar of the records, drawn with its running mean"""
    points: tuple[str, ...] = ()
    """figures of the evaluations whose last part is one of these"""
    from_zero: bool = False
    logarithmic: bool = False
    smooth: bool = True
    """whether the running mean is drawn as well"""


CHARTS = (
    Chart("Loss", "loss", ("loss",)),
    Chart("Masked-LM loss", "mlm", ("mlm_loss",)),
    Chart("Sentence-order loss", "sop", ("sop_loss",)),
    Chart("Validation: right at the first guess", points=("top1", "sop_accuracy")),
    Chart("Learning rate", "learning_rate", from_zero=True, smooth=False),
    Chart("Gradient norm", "gradient_norm", logarithmic=True),
    Chart("Tokens per second", "tokens_per_second", from_zero=True),
    Chart("Padding", "padding", from_zero=True),
)
SHARES = ("top1", "top5", "accuracy", "padding")
"""Ends of the names of what is shown as a percentage."""


def write_report(
    path: Path,
    *,
    title: str,
    settings: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    evaluations: Sequence[Mapping[str, Any]],
    fillings: Sequence[Filling],
) -> None:
    """Writes the page aside and renames it, so that a browser never sees half of one.

    `records` and `evaluations` are as `training.records.Records.read` gives them: each has an int "step", and None
    where a number was not finite. Any part may be empty. Tokens seen are those of the last record's "tokens"; without
    it they are reckoned from the "batch_size" of the settings and the rates of the records.
    """
    flat = dict(_flat(settings))
    sections = (
        _section("Summary", _summary(flat, records, evaluations), hidden=True),
        f'<div class="charts">{"".join(_charts(records, evaluations))}</div>',
        _section("Evaluations", _evaluations(evaluations)),
        _section("Sentences filled in", _fillings(fillings)),
        _section("Settings", _settings(flat)),
    )
    page = PAGE.format(title=escape(title), style=STYLE, body="\n".join(filter(None, sections)))
    part = path.with_name(path.name + ".part")
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(page, encoding="utf-8")
        os.replace(part, path)


def _section(name: str, content: str, *, hidden: bool = False) -> str:
    """A card under its name, which may be for screen readers only; nothing where there is no content."""
    heading = f"<h2{' class=unseen' if hidden else ''}>{name}</h2>"
    return f'<section class="card">{heading}\n{content}</section>' if content else ""


# Summary


def _summary(
    settings: Mapping[str, Any], records: Sequence[Mapping[str, Any]], evaluations: Sequence[Mapping[str, Any]]
) -> str:
    last = records[-1] if records else {}
    figures = []
    if last:
        steps = _setting(settings, "steps")
        figures.append(("step", f"{last['step']:,}", f"of {steps:,}" if isinstance(steps, int) else ""))
        figures.append(("tokens seen", *_tokens_seen(settings, records)))
    for name, label in (("loss", "loss"), ("mlm", "masked-LM loss"), ("sop", "sentence-order loss")):
        if name in last:
            figures.append((label, _shown(name, last[name]), "of the last record"))
    if last.get("skipped_steps"):
        figures.append(("steps skipped", f"{last['skipped_steps']:,}", ""))
    html = _figures(figures)
    bests = [(name, _best(name, evaluations)) for name in _names(evaluations) if not name.endswith("top5")]
    found = [(_words(name), _shown(name, best[name]), f"at step {best['step']:,}") for name, best in bests if best]
    return html + (f"<h3>Best in validation</h3>{_figures(found)}" if found else "")


def _figures(figures: Sequence[tuple[str, str, str]]) -> str:
    cells = (
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"
        for name, value, note in figures
    )
    return f'<dl class="figures">{"".join(cells)}</dl>' if figures else ""


def _tokens_seen(settings: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """The number and a note about it."""
    if tokens := records[-1].get("tokens"):
        return _short(tokens), ""
    batch = _setting(settings, "batch_size")
    rates = ((each.get("tokens_per_second"), each.get("samples_per_second")) for each in records)
    lengths = [tokens / samples for tokens, samples in rates if tokens and samples]
    if not isinstance(batch, int) or not lengths:
        return "–", "not recorded"
    return _short(records[-1]["step"] * batch * float(np.mean(lengths))), "estimated"


def _best(name: str, evaluations: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The earliest evaluation with the lowest loss or the highest share; None for other figures."""
    known = [each for each in evaluations if _finite(each.get(name))]
    if not known or not name.endswith(("loss", *SHARES)):
        return None
    return min(known, key=lambda each: each[name] if name.endswith("loss") else -each[name])


# Curves


def _charts(records: Sequence[Mapping[str, Any]], evaluations: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The charts for which there is anything to draw."""
    recorded = {name for each in records for name, value in each.items() if _finite(value)}
    names = [name for name in _names(evaluations) if any(_finite(each.get(name)) for each in evaluations)]
    groups = list(dict.fromkeys(_group(name) for name in names))
    for number, chart in enumerate(CHARTS):
        curve = chart.curve if chart.curve in recorded else ""
        points = [name for name in names if name.rpartition("/")[2] in chart.points]
        # Without sentence order the masked-LM loss is the loss.
        if (curve or points) and not (curve == "loss" and "mlm" in recorded and "sop" not in recorded):
            yield _chart(number, chart, records if curve else [], evaluations, points, groups)


def _chart(
    number: int,
    chart: Chart,
    records: Sequence[Mapping[str, Any]],
    evaluations: Sequence[Mapping[str, Any]],
    points: Sequence[str],
    groups: Sequence[str],
) -> str:
    """One chart with its legend; `groups` give the figures of the evaluations their colours in all charts."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.45, 2.3))
    axes = figure.add_axes((0.13, 0.19, 0.82, 0.78))
    legend = []
    if records:
        steps, values = _column(records, chart.curve)
        if chart.logarithmic:
            values[values <= 0] = np.nan
        axes.plot(*_thinned(steps, values), color=_paint("series0"), linewidth=0.9, alpha=0.35 if chart.smooth else 1)
        if chart.smooth and len(records) > 1:
            window = max(2, len(records) // 50)
            axes.plot(*_thinned(steps, _running_mean(values, window)), color=_paint("series0"), linewidth=1.4)
            legend.append(("series0", f"training, and its mean over {window} records"))
        else:
            legend.append(("series0", "training"))
    for name in points:
        paint = f"series{1 + groups.index(_group(name)) % (SERIES - 1)}"
        steps, values = _column(evaluations, name)
        axes.plot(steps, values, color=_paint(paint), linewidth=0.8, marker="o", markersize=2.6)
        legend.append((paint, f"{'validation: ' if records else ''}{_words(_group(name) or name)}"))
    _dress(axes, chart)
    keys = "".join(f'<li><i style="background: var(--{paint})"></i>{escape(text)}</li>' for paint, text in legend)
    caption = f"<figcaption><h2>{chart.title}</h2><ul>{keys}</ul></figcaption>"
    return f'<figure class="card">{caption}{_svg(figure, f"chart{number}", chart.title)}</figure>'


def _dress(axes: Any, chart: Chart) -> None:
    """Ticks, grid and limits; all text is numbers, but for "step"."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    share = (chart.curve or chart.points[0]).endswith(SHARES)
    axes.set_facecolor("none")
    axes.set_axisbelow(True)
    if chart.logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
    elif chart.from_zero:
        axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %" if share else _short(value)))
    axes.set_xlabel("step", color=_paint("soft"))
    axes.grid(color=_paint("line"), linewidth=0.6)
    axes.tick_params(labelcolor=_paint("soft"), length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_paint("line"))


def _paint(name: str) -> str:
    """A colour that stands for a variable of the style sheet until `_svg` puts that in, for light and dark."""
    return f"#fedc{PAINTS.index(name):02x}"


def _svg(figure: Any, prefix: str, label: str) -> str:
    """The figure as an element of the page: no declarations, colours from the style sheet, ids of its own."""
    from matplotlib import rc_context

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}):
        file = io.StringIO()
        figure.savefig(
            file, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
    text = file.getvalue()
    view = re.search(r'viewBox="[^"]*"', text)
    assert view is not None
    text = text[text.index("<g ") :]
    text = re.sub(r"#fedc([0-9a-f]{2})", lambda found: f"var(--{PAINTS[int(found[1], 16)]})", text)
    text = re.sub(r" font-family: [^;\"]*;", "", text)
    text = text.replace('id="', f'id="{prefix}-').replace("url(#", f"url(#{prefix}-")
    text = text.replace('xlink:href="#', f'href="#{prefix}-')
    return f'<svg {view[0]} role="img" aria-label="{label}">{text}'


def _column(records: Sequence[Mapping[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values, float64 each, of the records that have the scalar; NaN where it was not finite."""
    known = [each for each in records if name in each]
    values = [each[name] if _finite(each[name]) else math.nan for each in known]
    return np.array([each["step"] for each in known], dtype=np.float64), np.array(values, dtype=np.float64)


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean of the `window` values around each, as far as there are such and they are finite; NaN where none is."""
    known = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    first = np.maximum(np.arange(len(values)) - window // 2, 0)
    last = np.minimum(np.arange(len(values)) + (window + 1) // 2, len(values))
    held = counts[last] - counts[first]
    return np.where(held, (sums[last] - sums[first]) / np.maximum(held, 1), np.nan)


def _thinned(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most two points for each of `POINTS` stretches, the lowest and the highest, so that spikes stay."""
    if len(steps) <= 2 * POINTS:
        return steps, values
    kept = []
    for stretch in np.array_split(np.arange(len(steps)), POINTS):
        low = np.argmin(np.where(np.isfinite(values[stretch]), values[stretch], np.inf))
        high = np.argmax(np.where(np.isfinite(values[stretch]), values[stretch], -np.inf))
        kept += sorted({int(stretch[low]), int(stretch[high])})
    return steps[kept], values[kept]


# Evaluations


def _names(evaluations: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the figures as they first appear, those of a group together."""
    names = list(dict.fromkeys(name for each in evaluations for name in each if name != "step"))
    groups = list(dict.fromkeys(map(_group, names)))
    return sorted(names, key=lambda name: groups.index(_group(name)))


def _group(name: str) -> str:
    """ "word" for "word/top1", "sop" for "sop_accuracy" """
    return name.rpartition("/" if "/" in name else "_")[0]


def _evaluations(evaluations: Sequence[Mapping[str, Any]]) -> str:
    """A table, the newest first, the best of every figure marked."""
    names = _names(evaluations)
    if not names:
        return ""
    groups = list(map(_group, names))
    best = {name: _best(name, evaluations) for name in names}
    upper = "".join(
        f'<th colspan="{groups.count(group)}" scope="colgroup">{escape(_words(group))}</th>'
        for group in dict.fromkeys(groups)
    )
    lower = "".join(f'<th scope="col">{escape(_words(name[len(_group(name)) :].lstrip("/_")))}</th>' for name in names)
    rows = []
    for each in reversed(evaluations):
        cells = (
            f"<td{' class=best' if each is best[name] else ''}>"
            f"{escape(_shown(name, each[name])) if name in each else '–'}</td>"
            for name in names
        )
        rows.append(f'<tr><th scope="row">{each["step"]:,}</th>{"".join(cells)}</tr>')
    return (
        '<div class="table" tabindex="0"><table><thead>'
        f'<tr><th rowspan="2" scope="col">step</th>{upper}</tr><tr>{lower}</tr></thead>\n'
        f"<tbody>{chr(10).join(rows)}</tbody></table></div>"
    )


# Sentences


def _fillings(fillings: Sequence[Filling]) -> str:
    if not fillings:
        return ""
    legend = (
        '<p class="hint">To be predicted: <span class="masked">[MASK]</span>, '
        '<span class="replaced">another token</span> or <span class="kept">the token itself</span>. '
        'The model\'s first guess: <span class="right">right</span> or '
        '<span class="wrong"><del>wrong</del><ins>what stood there</ins></span>. '
        "‖ stands between the two texts of a pair.</p>"
    )
    return legend + "\n".join(map(_filling, fillings))


def _filling(filling: Filling) -> str:
    """Three lines and, folded, the best guesses of every position."""
    guesses = {guess.index: guess for guess in filling.guesses}
    seen = dict.fromkeys(guesses, "")
    filled = dict.fromkeys(guesses, "")
    for index, guess in guesses.items():
        token = filling.seen[index]
        kind = "masked" if token == "[MASK]" else "kept" if token == guess.label else "replaced"
        seen[index] = f'<span class="{kind}">{escape(bare(token))}</span>'
        filled[index] = _guessed(guess)
    lines = (
        ("original", _line(filling, filling.original, {})),
        ("masked", _line(filling, filling.seen, seen)),
        ("filled", _line(filling, filling.filled, filled)),
    )
    right = sum(guess.right for guess in filling.guesses)
    rows = "".join(_row(filling, guess) for guess in filling.guesses)
    return (
        f"<article><dl>{''.join(f'<dt>{name}</dt><dd lang=zh>{line}</dd>' for name, line in lines)}</dl>"
        f"<details><summary>{right} of {len(guesses)} right; the best guesses</summary>"
        '<div class="table" tabindex="0"><table><thead><tr><th scope="col">seen</th><th scope="col">original</th>'
        f'<th scope="col">guesses</th></tr></thead><tbody lang="zh">{rows}</tbody></table></div></details></article>'
    )


def _line(filling: Filling, tokens: Sequence[str], marked: Mapping[int, str]) -> str:
    """The tokens as HTML, those in `marked` as given there."""
    parts = (gap + marked.get(index, escape(text)) for index, (gap, text) in enumerate(written(tokens)))
    return f"{'' if filling.begins else '…'}{''.join(parts)}{'' if filling.ends else '…'}"


def _guessed(guess: Guess) -> str:
    best = escape("\n".join(f"{token} {_percent(probability)}" for token, probability in guess.best))
    token = escape(bare(guess.best[0][0]))
    if guess.right:
        return f'<span class="right" title="{best}">{token}</span>'
    return f'<span class="wrong" title="{best}"><del>{token}</del><ins>{escape(bare(guess.label))}</ins></span>'


def _row(filling: Filling, guess: Guess) -> str:
    best = "".join(
        f"<li{' class=hit' if token == guess.label else ''}>{escape(token)} <small>{_percent(probability)}</small></li>"
        for token, probability in guess.best
    )
    return (
        f"<tr><td>{escape(filling.seen[guess.index])}</td>"
        f"<td>{escape(guess.label)} <small>{_percent(guess.probability)}</small></td><td><ol>{best}</ol></td></tr>"
    )


# Settings, names and numbers


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings inside of settings under names with dots."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _setting(settings: Mapping[str, Any], name: str) -> Any:
    """The first of that name, wherever it stands; None where there is none."""
    return next((value for path, value in settings.items() if path.split(".")[-1] == name), None)


def _settings(settings: Mapping[str, Any]) -> str:
    rows = (
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(str(value))}</td></tr>' for name, value in settings.items()
    )
    return f'<table class="settings"><tbody>{"".join(rows)}</tbody></table>' if settings else ""


def _words(name: str) -> str:
    return name.replace("/", " ").replace("_", " ")


def _finite(value: Any) -> bool:
    return value is not None and math.isfinite(value)


def _shown(name: str, value: Any) -> str:
    if not _finite(value):
        return "not finite"
    if name.endswith(SHARES):
        return _percent(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.4g}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if math.isfinite(share) else "–"


def _short(value: float) -> str:
    """1200000 -> 1.2M"""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}"


SERIES = 6
"""Colours of curves in the style sheet: the first for training, the others for validation."""
PAINTS = ("soft", "line", *(f"series{number}" for number in range(SERIES)))
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
