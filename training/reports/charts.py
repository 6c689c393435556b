"""Charts over the steps of a run, as SVG with the colours of the page, light or dark."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from training.reports.html_page import SERIES, finite, short

POINTS = 400
"""Sections of a long curve; the lowest and the highest value of each section are drawn."""
PAINTS = ("soft", "line", *(f"series{number}" for number in range(SERIES)))
"""Colour variables of the style sheet that charts use."""


@dataclass(frozen=True)
class Line:
    """One line of a chart."""

    legend: str
    steps: np.ndarray
    """float64 [points]"""
    values: np.ndarray
    """float64 [points], NaN for a gap in the line"""
    series: int = 0
    """number of the colour"""
    dots: bool = False
    """draw a dot at every point; otherwise long lines are downsampled"""
    smooth: bool = False
    """also draw the running mean"""

    @property
    def paint(self) -> str:
        return f"series{self.series}"


@dataclass(frozen=True)
class Chart:
    """A chart: lines over the steps, with a common scale."""

    title: str
    lines: Sequence[Line]
    share: bool = False
    """show the values as percentages"""
    from_zero: bool = False
    logarithmic: bool = False


def column(records: Sequence[Mapping[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values, float64 each, of the records with the scalar; NaN for values that were not finite."""
    known = [each for each in records if name in each]
    values = [each[name] if finite(each[name]) else math.nan for each in known]
    return np.array([each["step"] for each in known], dtype=np.float64), np.array(values, dtype=np.float64)


def draw_chart(chart: Chart, name: str) -> str:
    """The chart as an HTML card with a legend; `name` makes its ids unique on the page."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.45, 2.3))
    axes = figure.add_axes((0.13, 0.19, 0.82, 0.78))
    legend = [(line.paint, _draw(axes, line, chart.logarithmic)) for line in chart.lines]
    _style_axes(axes, chart)
    keys = "".join(f'<li><i style="background: var(--{paint})"></i>{escape(text)}</li>' for paint, text in legend)
    caption = f"<figcaption><h2>{chart.title}</h2><ul>{keys}</ul></figcaption>"
    return f'<figure class="card">{caption}{_svg(figure, name, chart.title)}</figure>'


def _draw(axes: Any, line: Line, logarithmic: bool) -> str:
    """Draws the line and returns its legend."""
    paint = _paint(line.paint)
    if line.dots:
        axes.plot(line.steps, line.values, color=paint, linewidth=0.8, marker="o", markersize=2.6)
        return line.legend
    values = np.where(line.values > 0, line.values, np.nan) if logarithmic else line.values
    axes.plot(*downsample(line.steps, values), color=paint, linewidth=0.9, alpha=0.35 if line.smooth else 1)
    if not line.smooth or len(values) < 2:
        return line.legend
    window = max(2, len(values) // 50)
    axes.plot(*downsample(line.steps, running_mean(values, window)), color=paint, linewidth=1.4)
    return f"{line.legend}, and its mean over {window} records"


def _style_axes(axes: Any, chart: Chart) -> None:
    """Sets ticks, grid and limits."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    axes.set_facecolor("none")
    axes.set_axisbelow(True)
    if chart.logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
    elif chart.from_zero:
        axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{100 * value:.3g} %" if chart.share else short(value))
    )
    axes.set_xlabel("step", color=_paint("soft"))
    axes.grid(color=_paint("line"), linewidth=0.6)
    axes.tick_params(labelcolor=_paint("soft"), length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_paint("line"))


def _paint(name: str) -> str:
    """A placeholder colour that `_svg` replaces by a variable of the style sheet, for light and dark."""
    return f"#fedc{PAINTS.index(name):02x}"


def _svg(figure: Any, prefix: str, label: str) -> str:
    """The figure as an SVG element, with colours of the style sheet and unique ids."""
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


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean of the finite values in a window around each value; NaN if there are none."""
    known = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    first = np.maximum(np.arange(len(values)) - window // 2, 0)
    last = np.minimum(np.arange(len(values)) + (window + 1) // 2, len(values))
    held = counts[last] - counts[first]
    return np.where(held, (sums[last] - sums[first]) / np.maximum(held, 1), np.nan)


def downsample(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most two points for each of `POINTS` sections, the lowest and the highest, so that spikes are kept."""
    if len(steps) <= 2 * POINTS:
        return steps, values
    kept = []
    for section in np.array_split(np.arange(len(steps)), POINTS):
        low = np.argmin(np.where(np.isfinite(values[section]), values[section], np.inf))
        high = np.argmax(np.where(np.isfinite(values[section]), values[section], -np.inf))
        kept += sorted({int(section[low]), int(section[high])})
    return steps[kept], values[kept]
