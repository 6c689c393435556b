"""The report of a pretraining run: curves, evaluations, filled-in samples, settings; a self-contained HTML file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from training.pretraining.filled_samples import FilledSample, MaskPrediction
from training.reports import html_page
from training.reports.charts import Chart, Line, column, draw_chart
from training.reports.detokenization import spaced_tokens, without_prefix
from training.reports.html_page import SERIES, SHARES, finite, percent, section, short, shown, words


@dataclass(frozen=True)
class Curve:
    """The definition of one chart over the steps."""

    title: str
    scalar: str = ""
    """scalar of the records"""
    points: tuple[str, ...] = ()
    """metrics of the evaluations whose name ends in one of these"""
    from_zero: bool = False
    logarithmic: bool = False
    smooth: bool = True
    """also draw the running mean"""


CURVES = (
    Curve("Loss", "loss", ("loss",)),
    Curve("Masked-LM loss", "mlm", ("mlm_loss",)),
    Curve("Sentence-order loss", "sop", ("sop_loss",)),
    Curve("Loss on the teacher's probabilities", "logits"),
    Curve("Loss on the teacher's relations", "relations"),
    Curve("Validation: top-1 accuracy", points=("top1", "sop_accuracy")),
    Curve("Learning rate", "learning_rate", from_zero=True, smooth=False),
    Curve("Gradient norm", "gradient_norm", logarithmic=True),
    Curve("Tokens per second", "tokens_per_second", from_zero=True),
    Curve("Padding", "padding", from_zero=True),
)


def write_report(
    path: Path,
    *,
    title: str,
    settings: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    evaluations: Sequence[Mapping[str, Any]],
    filled_samples: Sequence[FilledSample],
) -> None:
    """Writes the page. Raises WriteError.

    `records` and `evaluations` are the results of `training.runs.records.Records.read`: each has an int "step", and
    None for numbers that were not finite. Any argument may be empty. The number of tokens is "tokens" of the last
    record; without it, it is estimated from the "batch_size" of the settings and the rates of the records.
    """
    named = dict(html_page.flat(settings))
    sections = (
        section("Summary", _summary(named, records, evaluations), hidden=True),
        f'<div class="charts">{"".join(_charts(records, evaluations))}</div>',
        section("Evaluations", _evaluations(evaluations)),
        section("Filled-in samples", _filled_samples(filled_samples)),
        section("Settings", html_page.settings_table(named)),
    )
    html_page.write_page(path, title=title, sections=sections)


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
            figures.append((label, shown(name, last[name]), "of the last record"))
    if last.get("skipped_steps"):
        figures.append(("steps skipped", f"{last['skipped_steps']:,}", ""))
    html = html_page.figures(figures)
    bests = [(name, _best(name, evaluations)) for name in _names(evaluations) if not name.endswith("top5")]
    found = [(words(name), shown(name, best[name]), f"at step {best['step']:,}") for name, best in bests if best]
    return html + (f"<h3>Best in validation</h3>{html_page.figures(found)}" if found else "")


def _setting(settings: Mapping[str, Any], name: str) -> Any:
    """The first setting of that name at any depth; None if there is none."""
    return next((value for path, value in settings.items() if path.split(".")[-1] == name), None)


def _tokens_seen(settings: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """The number of tokens, and a note."""
    if tokens := records[-1].get("tokens"):
        return short(tokens), ""
    batch = _setting(settings, "batch_size")
    rates = ((each.get("tokens_per_second"), each.get("samples_per_second")) for each in records)
    lengths = [tokens / samples for tokens, samples in rates if tokens and samples]
    if not isinstance(batch, int) or not lengths:
        return "–", "not recorded"
    return short(records[-1]["step"] * batch * float(np.mean(lengths))), "estimated"


def _best(name: str, evaluations: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The earliest evaluation with the lowest loss or the highest share; None for other metrics."""
    known = [each for each in evaluations if finite(each.get(name))]
    if not known or not name.endswith(("loss", *SHARES)):
        return None
    return min(known, key=lambda each: each[name] if name.endswith("loss") else -each[name])


# Curves


def _charts(records: Sequence[Mapping[str, Any]], evaluations: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The charts that have data."""
    recorded = {name for each in records for name, value in each.items() if finite(value)}
    names = [name for name in _names(evaluations) if any(finite(each.get(name)) for each in evaluations)]
    groups = list(dict.fromkeys(_group(name) for name in names))
    for number, curve in enumerate(CURVES):
        scalar = curve.scalar if curve.scalar in recorded else ""
        points = [name for name in names if name.rpartition("/")[2] in curve.points]
        # Without sentence order and teachers the masked-LM loss is the loss.
        alone = "mlm" in recorded and not recorded & {"sop", "logits", "relations"}
        if (scalar or points) and not (scalar == "loss" and alone):
            lines = [Line("training", *column(records, scalar), smooth=curve.smooth)] if scalar else []
            for name in points:
                legend = f"{'validation: ' if scalar else ''}{words(_group(name) or name)}"
                # A group has the same colour in all charts; the first colour is for training.
                series = 1 + groups.index(_group(name)) % (SERIES - 1)
                lines.append(Line(legend, *column(evaluations, name), series, dots=True))
            share = (curve.scalar or curve.points[0]).endswith(SHARES)
            chart = Chart(curve.title, lines, share, curve.from_zero, curve.logarithmic)
            yield draw_chart(chart, f"chart{number}")


# Evaluations


def _names(evaluations: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the metrics in the order of appearance, grouped."""
    names = list(dict.fromkeys(name for each in evaluations for name in each if name != "step"))
    groups = list(dict.fromkeys(map(_group, names)))
    return sorted(names, key=lambda name: groups.index(_group(name)))


def _group(name: str) -> str:
    """ "word" for "word/top1", "sop" for "sop_accuracy" """
    return name.rpartition("/" if "/" in name else "_")[0]


def _evaluations(evaluations: Sequence[Mapping[str, Any]]) -> str:
    """A table of the evaluations, newest first, with the best value of each metric marked."""
    names = _names(evaluations)
    if not names:
        return ""
    best = {name: _best(name, evaluations) for name in names}
    columns = [(words(_group(name)), words(name[len(_group(name)) :].lstrip("/_"))) for name in names]
    rows = [
        (
            f"{each['step']:,}",
            [(shown(name, each[name]) if name in each else "–", each is best[name]) for name in names],
        )
        for each in reversed(evaluations)
    ]
    return html_page.grouped_table("step", columns, rows)


# Sentences


def _filled_samples(filled_samples: Sequence[FilledSample]) -> str:
    if not filled_samples:
        return ""
    legend = (
        '<p class="hint">To be predicted: <span class="masked">[MASK]</span>, '
        '<span class="replaced">another token</span> or <span class="kept">the token itself</span>. '
        'The model\'s prediction: <span class="right">correct</span> or '
        '<span class="wrong"><del>wrong</del><ins>original token</ins></span>. '
        "‖ separates the two texts of a pair.</p>"
    )
    return legend + "\n".join(map(_filled_sample, filled_samples))


def _filled_sample(filling: FilledSample) -> str:
    """Three lines and, folded, the best predictions for every position."""
    guesses = {guess.index: guess for guess in filling.guesses}
    seen = dict.fromkeys(guesses, "")
    filled = dict.fromkeys(guesses, "")
    for index, guess in guesses.items():
        token = filling.seen[index]
        kind = "masked" if token == "[MASK]" else "kept" if token == guess.label else "replaced"
        seen[index] = f'<span class="{kind}">{escape(without_prefix(token))}</span>'
        filled[index] = _predicted_token(guess)
    lines = (
        ("original", _line(filling, filling.original, {})),
        ("masked", _line(filling, filling.seen, seen)),
        ("filled", _line(filling, filling.filled, filled)),
    )
    right = sum(guess.right for guess in filling.guesses)
    rows = "".join(_row(filling, guess) for guess in filling.guesses)
    return (
        f"<article><dl>{''.join(f'<dt>{name}</dt><dd lang=zh>{line}</dd>' for name, line in lines)}</dl>"
        f"<details><summary>{right} of {len(guesses)} correct; best predictions</summary>"
        '<div class="table" tabindex="0"><table><thead><tr><th scope="col">seen</th><th scope="col">original</th>'
        f'<th scope="col">predictions</th></tr></thead><tbody lang="zh">{rows}</tbody></table></div>'
        "</details></article>"
    )


def _line(filling: FilledSample, tokens: Sequence[str], marked: Mapping[int, str]) -> str:
    """The tokens as HTML; those in `marked` are replaced."""
    parts = (gap + marked.get(index, escape(text)) for index, (gap, text) in enumerate(spaced_tokens(tokens)))
    return f"{'' if filling.begins else '…'}{''.join(parts)}{'' if filling.ends else '…'}"


def _predicted_token(guess: MaskPrediction) -> str:
    best = escape("\n".join(f"{token} {percent(probability)}" for token, probability in guess.best))
    token = escape(without_prefix(guess.best[0][0]))
    if guess.right:
        return f'<span class="right" title="{best}">{token}</span>'
    return (
        f'<span class="wrong" title="{best}"><del>{token}</del><ins>{escape(without_prefix(guess.label))}</ins></span>'
    )


def _row(filling: FilledSample, guess: MaskPrediction) -> str:
    best = "".join(
        f"<li{' class=hit' if token == guess.label else ''}>{escape(token)} <small>{percent(probability)}</small></li>"
        for token, probability in guess.best
    )
    return (
        f"<tr><td>{escape(filling.seen[guess.index])}</td>"
        f"<td>{escape(guess.label)} <small>{percent(guess.probability)}</small></td><td><ol>{best}</ol></td></tr>"
    )
