"""Tables in Markdown of what `python -m benchmarks.serving.peers` has measured."""

from __future__ import annotations

from pathlib import Path

from benchmarks.rounds import median, number, spread, table
from benchmarks.serving.peers.contenders import PEERS
from benchmarks.serving.peers.figures import STAGES, Measured, distinct
from benchmarks.serving.peers.plots import plots

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
PEER_NAMES = [each.name for each in PEERS]


def write_report(measured: Measured, output: Path) -> str:
    """Writes OUTPUT.md and OUTPUT-*.svg; returns the tables. An existing page changes only between the marks."""
    page = output.with_suffix(".md")
    tables = "\n\n".join(sections(measured))
    text = page.read_text(encoding="utf-8") if page.is_file() else f"{BEGIN}\n{END}\n"
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{page} exists, but has no {BEGIN} and {END} to write between.")
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
    return found


def percent(value: float | None, digits: int = 0) -> str:
    """Empty for None."""
    return "" if value is None else f"{100 * value:.{digits}f} %"


def about(measured: Measured) -> str:
    """Machine, settings, and servers that were left out."""
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
            here = measured.of(server, endpoint, texts, connections)
            row.append(spread(each.rate for each in here))
            row += [number(median(each.p50 for each in here)), number(median(each.p99 for each in here))]
        rows.append(row)
    return table(head, rows)


def label(server: str) -> str:
    """The name in tables, with a mark for ernie-serve."""
    return server if server in PEER_NAMES else f"**ernie-serve**, {server}"


def ratio_table(measured: Measured) -> str:
    """At the most connections: ratio to the best peer, share of the offline ceiling, CPU time of a request."""
    most = max(_connections(measured))
    head = [f"{most} connections"]
    for endpoint, texts in _kinds(measured):
        head += [f"`{endpoint}` {texts}: × best peer", "of offline", "CPU ms"]
    rows = []
    for server in distinct(each.server for each in measured.closed):
        row = [label(server)]
        for endpoint, texts in _kinds(measured):
            here = measured.of(server, endpoint, texts, most)
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
                here = [each for each in measured.of(server, endpoint, texts, connections) if each.stages]
                if here:
                    times = [number(median(each.stages[stage] for each in here if each.stages)) for stage in STAGES]
                    padding = percent(median(each.padding or 0.0 for each in here), 1)
                    rows.append([f"`{endpoint}` {texts}, {server}", str(connections), *times, padding])
    return table(["milliseconds of a request", "connections", *STAGES, "padding"], rows)


def open_table(measured: Measured) -> str:
    """Latencies with requests at random moments."""
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
    """A trained model compared with its fp32 bundle offline."""
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
