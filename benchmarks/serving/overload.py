"""Goodput and latency against offered load: what the service does when more is offered than it can do.

    python -m benchmarks.serving.overload --models models --plot docs/overload.svg

The peak is what 64 connections of the same client reach in a closed loop. Then requests fall due at random moments
(Poisson) at a share or a multiple of that rate (benchmarks/serving/open_loop.py). Goodput is the rate of answers of
status 200; latencies run from the moment a request was due. Client and service share the machine.

Where the client sent more than 2 % less than was offered, the table says so, and its figures are of the rate that was
sent. A connection that is refused or lost is counted, and the round continues.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from pathlib import Path

import uvloop

from benchmarks.arguments import parser_of
from benchmarks.rounds import median, percentile, progress, spread
from benchmarks.serving.closed_loop import Load, by_python
from benchmarks.serving.open_loop import CLIENT_CONNECTIONS, CONNECTIONS, SETTLING_SECONDS, Offered, open_loop
from benchmarks.serving.service import serving
from benchmarks.serving.texts import TEXTS, bodies_of

LOADS = (0.5, 1.0, 2.0, 3.0)
PEAK_CONNECTIONS = 64


def one_round(load: Load, shares: Sequence[float], seconds: float, number: int) -> tuple[float, dict[float, Offered]]:
    """The peak, and each share of it."""
    peak = by_python(load, PEAK_CONNECTIONS, seconds).rate
    return peak, {share: open_loop(load, share * peak, seconds, number) for share in shares}


def plot(path: Path, endpoint: str, peak: float, results: dict[float, list[Offered]]) -> None:
    """Draws goodput and p99 against offered load; the format follows the suffix of the name."""
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
    sent = [median(each.sent for each in rounds) for rounds in results.values()]
    goodput = [[each.goodput for each in rounds] for rounds in results.values()]
    middle = [median(each) for each in goodput]
    errors = [[mid - min(each) for mid, each in zip(middle, goodput, strict=True)],
              [max(each) - mid for mid, each in zip(middle, goodput, strict=True)]]  # fmt: skip
    left.plot([0, max(sent)], [peak, peak], ":", color="grey", label="peak of a closed loop")
    left.plot([0, peak], [0, peak], "--", color="lightgrey")
    left.errorbar(sent, middle, errors, marker="o", label="goodput")
    left.set(xlabel="sent requests/s", ylabel="answers of status 200 per second", ylim=(0, peak * 1.25))
    for status, name in (("served", "p99, answered 200"), ("refused", "p99, answered 429")):
        values = [median(percentile(getattr(each, status), 99) for each in rounds) for rounds in results.values()]
        right.plot(sent, [value or None for value in values], marker="o", label=name)
    right.set(xlabel="sent requests/s", ylabel="milliseconds", yscale="log")
    for axes in (left, right):
        axes.legend()
        axes.grid(alpha=0.3)
    figure.suptitle(f"POST {endpoint}, offered 0.5, 1, 2 and 3 times its peak")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def show(share: float, peaks: Sequence[float], rounds: Sequence[Offered]) -> None:
    """Prints the figures of one load: median and spread over the rounds."""
    goodput = [each.goodput for each in rounds]
    of_peak = [100 * each / peak for each, peak in zip(goodput, peaks, strict=True)]
    refused = [100 * each.answers[429] / max(1, each.answered) for each in rounds]
    others = sum(each.answered - each.answers[200] - each.answers[429] for each in rounds)
    unsent = [100 * each.unsent / max(1, each.arrivals) for each in rounds]
    delay = [percentile(each.late, 99) for each in rounds]
    lost = sum((each.lost for each in rounds), collections.Counter[str]())
    print(f"{share:.1f} × peak offered: {spread([each.arrivals / each.seconds for each in rounds])} requests/s")
    print(f"  sent     {spread([each.sent for each in rounds])} requests/s")
    print(f"  not sent {spread(unsent, ' %')} of the offered: all {CLIENT_CONNECTIONS} connections were busy")
    if behind := sum(not each.kept_up for each in rounds):
        print(f"  THE CLIENT DID NOT KEEP UP in {behind} of {len(rounds)} rounds: the figures are of the rate sent")
    print(f"  goodput  {spread(goodput)} requests/s, {spread(of_peak, ' %')} of the peak")
    print(f"  429      {spread(refused, ' %')} of the answers; neither 200 nor 429: {others}")
    print(f"  no answer {sum(lost.values())}{''.join(f', {name} {count}' for name, count in lost.items())}")
    print(f"  p99 of the delay until sent {spread(delay, ' ms')}")
    for status, name in (("served", "200"), ("refused", "429")):
        for percent in (50, 99) if any(getattr(each, status) for each in rounds) else ():
            print(
                f"  p{percent} {name}  {spread([percentile(getattr(each, status), percent) for each in rounds], ' ms')}"
            )


def main() -> None:
    """Runs the rounds, prints the table, draws the curve."""
    parser = parser_of(__doc__, models=True, rounds=5, seconds=8)
    parser.add_argument("--endpoint", choices=("/classify", "/fill-mask"), default="/classify")
    parser.add_argument("--plot", type=Path, help="picture to write, .svg or .png")
    arguments = parser.parse_args()
    uvloop.install()  # what the client takes of the machine, the service lacks
    with serving(arguments.models, "--max-connections", str(CONNECTIONS)) as service:
        load = Load(service.url, arguments.endpoint, bodies_of(arguments.endpoint, TEXTS))
        by_python(load, PEAK_CONNECTIONS, SETTLING_SECONDS)
        rounds = [
            one_round(load, LOADS, arguments.seconds, number)
            for number in progress(range(arguments.rounds), unit="round")
        ]
    peaks = [peak for peak, _ in rounds]
    results = {share: [found[share] for _, found in rounds] for share in LOADS}
    print(f"{arguments.endpoint}: peak {spread(peaks)} requests/s; median (lowest–highest) of each")
    for share, offered in results.items():
        show(share, peaks, offered)
    if arguments.plot:
        plot(arguments.plot, arguments.endpoint, median(peaks), results)


if __name__ == "__main__":
    main()
