"""Tables in Markdown and plots of what `python -m benchmarks.peers` has measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.contenders import OURS, PEERS
from benchmarks.measured import STAGES, Closed, Measured, distinct, median
from benchmarks.speed_plots import plots

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
PEER_NAMES = [each.name for each in PEERS]
OUR_NAMES = [each.name for each in OURS]


def write_report(measured: Measured, output: Path) -> str:
    """Writes OUTPUT.md and OUTPUT-*.svg; returns the tables. Of a page that is there only what is between the marks."""
    page = output.with_suffix(".md")
    tables = "\n\n".join(sections(measured))
    text = page.read_text(encoding="utf-8") if page.is_file() else f"{BEGIN}\n{END}\n"
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{page} is there, but has no {BEGIN} and {END} to write between.")
    before, rest = text.split(BEGIN, 1)
    page.write_text(f"{before}{BEGIN}\n{tables}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")
    plots(measured, output)
    return tables


def sections(measured: Measured) -> list[str]:
    """Headings and tables, in the order of the page."""
    found = ["### What it was measured on", about(measured)]
    for endpoint in distinct(each.endpoint for each in measured.closed):
        for texts in distinct(each.texts for each in measured.closed if each.endpoint == endpoint):
            found += [f"### `{endpoint}`, {texts}", load_table(measured, endpoint, texts)]
    found += ["### Against the best peer, and against no server", ratio_table(measured)]
    found += ["### Time by stage, and padding", stage_table(measured)]
    if measured.open:
        found += ["### Open loop", open_table(measured)]
    found += ["### Agreement of answers", agreement_table(measured)]
    if measured.labels:
        found += [label_table(measured)]
    if any(each.wrk for each in measured.clients):
        found += ["### The clients", client_table(measured)]
    return found


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown; the first column is to the left, the others to the right."""
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(values: Iterable[float]) -> str:
    """`median (lowest–highest)`, in as many digits as mean something."""
    found = sorted(values)
    return f"{number(median(found))} ({number(found[0])}–{number(found[-1])})" if len(found) > 1 else number(found[0])


def number(value: float) -> str:
    """Three digits, or all before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def percent(value: float | None, digits: int = 0) -> str:
    """Nothing of None."""
    return "" if value is None else f"{100 * value:.{digits}f} %"


def about(measured: Measured) -> str:
    """Machine, settings, and what was left out."""
    rows = [*measured.machine.items(), *measured.settings.items()]
    return table(["", ""], [*rows, *((f"{name}, skipped", why) for name, why in measured.skipped.items())]).replace(
        "---:", "---"
    )


def _servers(measured: Measured, endpoint: str, texts: str) -> list[str]:
    return distinct(each.server for each in measured.closed if (each.endpoint, each.texts) == (endpoint, texts))


def _connections(measured: Measured) -> list[int]:
    return sorted({each.connections for each in measured.closed})


def _kinds(measured: Measured) -> list[tuple[str, str]]:
    return list(dict.fromkeys((each.endpoint, each.texts) for each in measured.closed))


def load_table(measured: Measured, endpoint: str, texts: str) -> str:
    """Requests per second and latencies of one endpoint and one kind of text."""
    head = ["server"]
    for connections in _connections(measured):
        head += [
            f"{connections} conn.: requests/s" if connections > 1 else "1 connection: requests/s",
            "p50 ms",
            "p99 ms",
        ]
    rows = []
    for server in _servers(measured, endpoint, texts):
        row = [label(server)]
        for connections in _connections(measured):
            here = measured.stretches(server, endpoint, texts, connections)
            row.append(spread(each.rate for each in here))
            row += [number(median(each.p50 for each in here)), number(median(each.p99 for each in here))]
        rows.append(row)
    return table(head, rows)


def label(server: str) -> str:
    """As tables name it: our own are told from others' libraries."""
    return server if server in PEER_NAMES else f"**ernie-serve**, {server}"


def ratio_table(measured: Measured) -> str:
    """At the most connections: times the best peer, share of the offline ceiling, processor time for a request."""
    most = max(_connections(measured))
    head = [f"{most} connections"]
    for endpoint, texts in _kinds(measured):
        head += [f"`{endpoint}` {texts}: × best peer", "of offline", "CPU ms"]
    rows = []
    for server in distinct(each.server for each in measured.closed):
        row = [label(server)]
        for endpoint, texts in _kinds(measured):
            here = measured.stretches(server, endpoint, texts, most)
            peer = measured.best(PEER_NAMES, endpoint, texts, most)
            row.append(f"{measured.ratio(server, peer, endpoint, texts, most):.2f}" if peer and here else "")
            row.append(percent(measured.share_of_ceiling(server, endpoint, texts, most)))
            row.append(number(median(each.cpu_ms for each in here)) if here else "")
        rows.append(row)
    return table(head, rows)


def stage_table(measured: Measured) -> str:
    """Milliseconds of a request in ernie-serve by stage, and the share of padding, at each number of connections."""
    rows = []
    for endpoint, texts in _kinds(measured):
        for server in _servers(measured, endpoint, texts):
            for connections in _connections(measured):
                here = [each for each in measured.stretches(server, endpoint, texts, connections) if each.stages]
                if here:
                    times = [number(median(stage_times(here, stage))) for stage in STAGES]
                    padding = percent(median(each.padding or 0.0 for each in here), 1)
                    rows.append([f"`{endpoint}` {texts}, {server}", str(connections), *times, padding])
    return table(["milliseconds of a request", "connections", *STAGES, "padding"], rows)


def stage_times(stretches: Sequence[Closed], stage: str) -> list[float]:
    """Of one stage in each round."""
    return [each.stages[stage] for each in stretches if each.stages]


def open_table(measured: Measured) -> str:
    """Latencies where requests come at random moments."""
    rows = [
        [f"`{each.endpoint}` {each.texts}, {label(each.server)}", percent(each.share), number(each.rate),
         number(each.p50), number(each.p99)]
        for each in measured.open
    ]  # fmt: skip
    return table(["server", "of its peak", "requests/s", "p50 ms", "p99 ms"], rows)


def agreement_table(measured: Measured) -> str:
    """The largest difference of a score from the offline run."""
    rows = [[f"`{each.endpoint}`, {label(each.server)}", str(each.texts), f"{each.difference:.1e}"]
            for each in measured.agreement]  # fmt: skip
    return table(["server", "texts", "largest difference of a score"], rows)


def label_table(measured: Measured) -> str:
    """A trained model against its fp32 bundle offline."""
    rows = [
        [label(each.server), str(each.texts), percent(each.equal_labels, 2), percent(each.accuracy, 2),
         percent(each.offline_accuracy, 2), f"{each.largest_difference:.1e}"]
        for each in measured.labels
    ]  # fmt: skip
    head = [
        "trained model",
        "texts",
        "labels equal",
        "accuracy",
        "accuracy offline, fp32",
        "largest difference of a score",
    ]
    return table(head, rows)


def client_table(measured: Measured) -> str:
    """The own generator beside wrk, in a closed loop of the same bodies."""
    rows = [[f"`{each.endpoint}` {each.texts}, {label(each.server)}", number(each.own), number(each.wrk),
             f"{each.own / each.wrk:.2f}"] for each in measured.clients if each.wrk]  # fmt: skip
    return table(["server", "own generator: requests/s", "wrk: requests/s", "ratio"], rows)
