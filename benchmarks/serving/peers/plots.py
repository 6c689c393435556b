"""Plots of what `python -m benchmarks.serving.peers` has measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.rounds import median
from benchmarks.serving.peers.contenders import OURS, PEERS
from benchmarks.serving.peers.figures import STAGES, Closed, Measured, distinct

# Peers in grey, dashed; ours in colours whose neighbours also differ for the colour-blind (Okabe and Ito).
PEER_GREYS = ("#111111", "#555555", "#888888", "#b0b0b0")
OUR_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9")
STAGE_COLOURS = {"tokenize": "#e69f00", "queue": "#bbbbbb", "inference": "#0072b2", "rest": "#d55e00"}
STYLES: dict[str, dict[str, Any]] = {
    **{each.name: {"color": grey, "linestyle": "--", "marker": "s"}
       for each, grey in zip(PEERS, PEER_GREYS, strict=True)},
    **{each.name: {"color": colour, "marker": "o"} for each, colour in zip(OURS, OUR_COLOURS, strict=True)},
}  # fmt: skip


def plots(measured: Measured, output: Path) -> None:
    """Draws OUTPUT-throughput.svg, OUTPUT-stages.svg and OUTPUT-padding.svg."""
    if measured.open:
        _throughput(measured, output)
    if any(each.stages for each in measured.closed):
        _stages(measured, output)
        _padding(measured, output)


def _save(figure: Any, output: Path, name: str) -> None:
    from matplotlib import pyplot

    # The same figures must give the same file.
    pyplot.rcParams["svg.hashsalt"] = "ernie-zh"
    figure.savefig(f"{output}-{name}.svg", metadata={"Date": None})
    pyplot.close(figure)


def _throughput(measured: Measured, output: Path) -> None:
    """p99 against throughput in the open loop, a panel for each kind of text."""
    from matplotlib import pyplot

    kinds = list(dict.fromkeys((each.endpoint, each.texts) for each in measured.open))
    figure, panels = pyplot.subplots(
        1, len(kinds), figsize=(5.2 * len(kinds), 4.6), squeeze=False, layout="constrained"
    )
    for axes, (endpoint, texts) in zip(panels[0], kinds, strict=True):
        here = [each for each in measured.open if (each.endpoint, each.texts) == (endpoint, texts)]
        for server in distinct(each.server for each in here):
            points = sorted((each.rate, each.p99) for each in here if each.server == server)
            axes.plot(*zip(*points, strict=True), label=server, markersize=4, **STYLES[server])
        axes.set(title=f"{endpoint}, {texts}", xlabel="answers per second", ylabel="p99, milliseconds", yscale="log")
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    _save(figure, output, "throughput")


def _ours(measured: Measured, endpoint: str, texts: str, connections: int) -> dict[str, list[Closed]]:
    """Measurements of ernie-serve by runtime."""
    found = {each.name: measured.of(each.name, endpoint, texts, connections) for each in OURS}
    return {name: here for name, here in found.items() if any(each.stages for each in here)}


def _stages(measured: Measured, output: Path) -> None:
    """Bars of the time by stage: a row of panels for each kind of text, at the fewest and most connections."""
    from matplotlib import pyplot

    kinds = list(dict.fromkeys((each.endpoint, each.texts) for each in measured.closed))
    loads = sorted({each.connections for each in measured.closed})
    loads = loads[:1] + loads[-1:] if len(loads) > 1 else loads
    size = (5.0 * len(loads), 2.1 * len(kinds) + 0.5)
    figure, panels = pyplot.subplots(len(kinds), len(loads), figsize=size, squeeze=False, layout="constrained")
    for row, (endpoint, texts) in zip(panels, kinds, strict=True):
        for axes, connections in zip(row, loads, strict=True):
            ours = _ours(measured, endpoint, texts, connections)
            left = [0.0] * len(ours)
            for stage in STAGES:
                width = [median(each.stages[stage] for each in all_ if each.stages) for all_ in ours.values()]
                axes.barh(list(ours), width, left=left, color=STAGE_COLOURS[stage], label=stage)
                left = [start + more for start, more in zip(left, width, strict=True)]
            axes.invert_yaxis()
            axes.set_title(
                f"{endpoint}, {texts}, {connections} connection{'s' if connections > 1 else ''}", fontsize=10
            )
            axes.set_xlabel("milliseconds of a request")
            axes.grid(alpha=0.3, axis="x")
        for axes in row[1:]:
            axes.set_yticklabels([])
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(STAGES))
    _save(figure, output, "stages")


def _padding(measured: Measured, output: Path) -> None:
    """The share of padding in a batch against connections, a panel for each kind of text."""
    from matplotlib import pyplot

    kinds = list(dict.fromkeys((each.endpoint, each.texts) for each in measured.closed))
    loads = sorted({each.connections for each in measured.closed})
    figure, panels = pyplot.subplots(
        1, len(kinds), figsize=(2.8 * len(kinds) + 1, 3.6), squeeze=False, sharey=True, layout="constrained"
    )
    for axes, (endpoint, texts) in zip(panels[0], kinds, strict=True):
        for server in (each.name for each in OURS):
            shares = [
                (str(connections), 100 * median(each.padding or 0.0 for each in here))
                for connections in loads
                if (here := measured.of(server, endpoint, texts, connections))
            ]
            if shares:
                axes.plot(*zip(*shares, strict=True), label=server, markersize=4, **STYLES[server])
        axes.set(title=f"{endpoint}, {texts}", xlabel="connections")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("padding, % of a batch")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    _save(figure, output, "padding")
