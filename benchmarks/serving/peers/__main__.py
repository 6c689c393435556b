"""ernie-serve compared with the services of other libraries and with its own runtimes without a server.

    python -m benchmarks.serving.peers --output docs/speed

Peers are FastAPI with ONNX Runtime and no batching, LitServe and mosec, each in a separate environment that is made
when it is missing (build/peers; needs uv and a package registry). All servers answer the same requests of one text,
with the same answers, and run one at a time: in every round each is started, checked, loaded and stopped, so that a
change of the machine affects all alike. Client and server share the machine.

An open loop follows in the last round: requests at random moments (Poisson) at shares of the peak. All figures go to
OUTPUT.json, plots to OUTPUT-*.svg, and the tables between the marks in OUTPUT.md, or to a new file; --draw makes tables
and plots of an earlier JSON file again.
"""

from __future__ import annotations

import argparse
import json
import random
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from benchmarks.machine import machine
from benchmarks.processes import separately
from benchmarks.rounds import percentile
from benchmarks.serving.closed_loop import Load, by_python, closed_loop, has_wrk
from benchmarks.serving.metrics import Metrics, mean
from benchmarks.serving.offline import OfflineModel
from benchmarks.serving.open_loop import open_loop
from benchmarks.serving.peers.agreement import (
    SAME_ANSWERS,
    Labelled,
    asked,
    label_agreement,
    largest_difference,
    offline_scores,
)
from benchmarks.serving.peers.ceiling import ceiling
from benchmarks.serving.peers.contenders import OURS, PEERS, Contender, Ours, Peer, Running
from benchmarks.serving.peers.figures import Agreement, Closed, Labels, Measured, Offline, Open
from benchmarks.serving.peers.report import write_report
from benchmarks.serving.peers.stages import PADDING, stages
from benchmarks.serving.texts import MOST_CHARACTERS, bodies_of, built_in_texts, read_texts
from model_build.bundle import Bundle, open_bundle

# Of each kind, sent one by one to every server.
CHECKED_TEXTS = 100
OPEN_ENDPOINT = "/classify"
SETTLING_SECONDS = 1.0


@dataclass
class Workload:
    """An endpoint with its bundles and its texts by kind; masked, if the endpoint fills masks."""

    endpoint: str
    bundle: Bundle
    int8: Bundle | None
    plain: Bundle | None
    bodies: dict[str, list[bytes]]

    @property
    def texts(self) -> dict[str, list[str]]:
        """The inputs of the bodies."""
        return {kind: [json.loads(body)["inputs"] for body in bodies] for kind, bodies in self.bodies.items()}

    def bundle_of(self, contender: Contender) -> Bundle | None:
        """The bundle that a contender serves; None if it serves none."""
        if isinstance(contender, Peer):
            return self.plain if contender.plain else self.bundle
        return self.int8 if contender.int8 else self.bundle


class Run:
    """One run: the servers, the settings and the figures."""

    def __init__(self, arguments: argparse.Namespace, workloads: Sequence[Workload]) -> None:
        self.arguments = arguments
        self.workloads = workloads
        self.flags = tuple(shlex.split(arguments.service_flags))
        wanted = [word.lower() for word in arguments.only]
        self.contenders = [
            each for each in (*PEERS, *OURS) if not wanted or any(word in each.name.lower() for word in wanted)
        ]
        about = {**machine(), **{f"peer {peer.name}": peer.versions() for peer in PEERS}}
        self.measured = Measured(about, settings_of(arguments, workloads))

    def rounds(self) -> None:
        """Measures everything; writes the figures so far even where it is stopped."""
        try:
            for number in range(self.arguments.rounds):
                for workload in self.workloads:
                    for contender in self.contenders:
                        with _named(f"round {number + 1}, {workload.endpoint}, {contender.name}"):
                            self.turn(number, workload, contender)
        finally:
            self.measured.save(self.arguments.output.with_suffix(".json"))

    def turn(self, number: int, workload: Workload, contender: Contender) -> None:
        """One contender's turn in a round."""
        bundle = workload.bundle_of(contender)
        if bundle is None or contender.name in self.measured.skipped:
            return
        if isinstance(contender, Ours) and not self.offline(number, workload, contender, bundle):
            return
        with contender.running(bundle, self.flags) as server:
            if number == 0:
                self.check(workload, contender, server)
            for kind, bodies in workload.bodies.items():
                load = Load(server.url, workload.endpoint, bodies)
                for connections in self.arguments.connections:
                    self.closed(number, contender, server, kind, load, connections)
                if number == self.arguments.rounds - 1 and workload.endpoint == OPEN_ENDPOINT:
                    self.open(contender, server, kind, load)

    def offline(self, number: int, workload: Workload, contender: Ours, bundle: Bundle) -> bool:
        """The ceiling of a runtime; False where it cannot run here, which is noted."""
        flags = (*contender.flags, *self.flags)
        measured = separately(ceiling, bundle.directory, flags, workload.texts, self.arguments.seconds / 2)
        if refusal := measured.get("refusal"):
            self.measured.skipped[contender.name] = str(refusal)
            _say(f"skipped: {refusal}")
            return False
        for kind, rates in measured["rates"].items():
            found = Offline(contender.name, workload.endpoint, kind, number, measured["streams"], rates)
            self.measured.offline.append(found)
            _say(f"{kind}, offline: {found.best:.0f} texts/s")
        return True

    def check(self, workload: Workload, contender: Contender, server: Running) -> None:
        """Compares answers with an offline run; raises RuntimeError for more than fp32 arithmetic explains."""
        texts = [text for kind in workload.texts.values() for text in kind[:CHECKED_TEXTS]]
        expected = offline_scores(OfflineModel(workload.bundle.directory), workload.endpoint, texts)
        difference = largest_difference(asked(server.url, workload.endpoint, texts), expected)
        found = Agreement(contender.name, workload.endpoint, len(texts), difference)
        self.measured.agreement.append(found)
        exact = not (isinstance(contender, Ours) and (contender.int8 or contender.precision != "fp32"))
        if exact and difference > SAME_ANSWERS:
            raise RuntimeError(f"its scores differ by {difference:.1e} from those of ONNX Runtime offline.")

    def closed(
        self, number: int, contender: Contender, server: Running, kind: str, load: Load, connections: int
    ) -> None:
        """A closed loop after a shorter one that is not counted."""
        closed_loop(load, connections, 1)
        server.settle()
        ours = isinstance(contender, Ours)
        before, cpu = Metrics.of(server.url) if ours else None, server.cpu_seconds()
        done = closed_loop(load, connections, self.arguments.seconds)
        cpu = server.cpu_seconds() - cpu
        if not done.requests:
            raise RuntimeError(
                f"{connections} connections got no answer in {done.seconds:.1f} s; set --seconds higher."
            )
        server.settle()
        found = Closed(
            contender.name, load.endpoint, kind, connections, number,
            done.rate, done.p50, done.p99, 1000 * cpu / done.requests,
        )  # fmt: skip
        if before:
            after = Metrics.of(server.url)
            found.stages, found.padding = stages(before, after), mean(before, after, PADDING)
        self.measured.closed.append(found)
        _say(f"{kind}, {connections} connections: {done.rate:.0f} requests/s, p99 {done.p99:.1f} ms")

    def open(self, contender: Contender, server: Running, kind: str, load: Load) -> None:
        """Shares of the peak of the client in Python, which takes more of the machine than wrk; raises RuntimeError."""
        peak = by_python(load, max(self.arguments.connections), self.arguments.seconds).rate
        for share in self.arguments.open_loop:
            server.settle()
            found = open_loop(load, share * peak, self.arguments.seconds, 1, SETTLING_SECONDS)
            if found.refused or found.lost or found.unsent:
                raise RuntimeError(
                    f"{len(found.refused)} answers were not of status 200, {sum(found.lost.values())} requests were "
                    f"lost and {found.unsent} not sent."
                )
            p50, p99 = percentile(found.served, 50), percentile(found.served, 99)
            self.measured.open.append(Open(contender.name, load.endpoint, kind, share, found.goodput, p50, p99))
            _say(f"{kind}, open loop: {found.goodput:.0f} requests/s, p99 {p99:.1f} ms")

    def labels(self, path: Path, exact: Bundle, int8: Bundle | None) -> None:
        """A trained model on labelled texts, with every runtime that was measured."""
        labelled = Labelled.read(path, exact.manifest.labels)
        expected = offline_scores(OfflineModel(exact.directory), "/classify", labelled.texts)
        for contender in self.contenders:
            bundle = int8 if isinstance(contender, Ours) and contender.int8 else exact
            if not isinstance(contender, Ours) or bundle is None or contender.name in self.measured.skipped:
                continue
            with _named(f"labelled texts, {contender.name}"), contender.running(bundle, self.flags) as server:
                found = Labels(contender.name, len(labelled.texts), **label_agreement(server.url, labelled, expected))
            self.measured.labels.append(found)
            _say(f"{found.equal_labels:.2%} of the labels equal, accuracy {found.accuracy:.2%}")


def chosen_texts(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """By kind, cut to 128 tokens; every run takes the same ones."""
    texts = built_in_texts()
    for kind in texts:
        if path := getattr(arguments, kind):
            texts[kind] = read_texts(path)
        random.Random(1).shuffle(texts[kind])
        texts[kind] = [text[:MOST_CHARACTERS] for text in texts[kind][: arguments.texts]]
    return texts


def workloads_of(arguments: argparse.Namespace) -> list[Workload]:
    """One for each bundle; raises BundleError or SystemExit."""
    texts = chosen_texts(arguments)
    int8 = {bundle.manifest.task: bundle for bundle in map(open_bundle, arguments.int8)}
    workloads = []
    for task, path in (("classify", arguments.classify), ("fill-mask", arguments.fill_mask)):
        bundle = open_bundle(path)
        if bundle.manifest.task != task:
            raise SystemExit(f"{path} is for {bundle.manifest.task}, but --{task} needs a bundle for {task}.")
        endpoint = f"/{task}"
        bodies = {kind: bodies_of(endpoint, given) for kind, given in texts.items()}
        plain = open_bundle(arguments.plain) if arguments.plain and task == "classify" else None
        workloads.append(Workload(endpoint, bundle, int8.get(bundle.manifest.task), plain, bodies))
    return [each for each in workloads if each.endpoint.strip("/") in arguments.endpoints]


def settings_of(arguments: argparse.Namespace, workloads: Sequence[Workload]) -> dict[str, str]:
    """How it was measured, for the report."""
    found = {
        "rounds": f"{arguments.rounds} of {arguments.seconds} s",
        "client": "wrk, one thread" if has_wrk() else "in Python; wrk is not installed",
        "flags of ernie-serve": arguments.service_flags or "none but the runtime and its precision",
    }
    for each in workloads:
        shape = each.bundle.manifest.architecture
        found[f"model of {each.endpoint}"] = (
            f"{each.bundle.manifest.name} {each.bundle.manifest.version}: {shape.get('num_hidden_layers')} layers of "
            f"{shape.get('hidden_size')}, vocabulary of {shape.get('vocab_size')}"
        )
    for kind, given in workloads[0].texts.items():
        found[kind] = f"{len(given)} texts of {sum(map(len, given)) / len(given):.0f} characters on average"
    return found


@contextmanager
def _named(step: str) -> Iterator[None]:
    """Prints the step, and names it where it fails."""
    print(step, file=sys.stderr, flush=True)
    try:
        yield
    except (RuntimeError, OSError) as error:
        raise SystemExit(f"{step}: {error}") from error


def _say(sentence: str) -> None:
    print(f"  {sentence}", file=sys.stderr, flush=True)


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.serving.peers", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="A quick look: --rounds 1 --seconds 1 --connections 1 16 --open-loop --only litserve openvino",
    )  # fmt: skip
    add = made.add_argument
    add("--classify", type=Path, default=Path("models/sentiment/3"), metavar="BUNDLE", help="(default: %(default)s)")
    add("--fill-mask", type=Path, default=Path("models/masked-lm/2"), metavar="BUNDLE", help="(default: %(default)s)")
    add("--int8", type=Path, nargs="+", default=[], metavar="BUNDLE", help="the same models in int8, either or both")
    add(
        "--plain",
        type=Path,
        metavar="BUNDLE",
        help="the classifier as others export it, for a peer: random_bundle --plain",
    )
    add("--endpoints", nargs="+", default=["classify", "fill-mask"], choices=["classify", "fill-mask"],
        help="which to measure (default: both)")  # fmt: skip
    add("--reviews", type=Path, metavar="FILE", help="longer texts: one a line, or the last column of a TSV")
    add("--titles", type=Path, metavar="FILE", help="short texts, likewise (default of both: ten built-in texts)")
    add("--texts", type=int, default=1000, help="of each kind at most (default: 1000)")
    add("--rounds", type=int, default=3, help="turns of every server (default: 3)")
    add("--seconds", type=int, default=3, help="length of a measurement (default: 3)")
    add("--connections", type=int, nargs="+", default=[1, 16, 64], help="of the closed loop (default: 1 16 64)")
    add("--open-loop", type=float, nargs="*", default=[0.3, 0.6, 0.85], metavar="SHARE",
        help="of the peak, for /classify; without a value no open loop (default: 0.3 0.6 0.85)")  # fmt: skip
    add("--only", nargs="+", default=[], metavar="WORD", help="servers with one of these words in their names")
    add("--service-flags", default="", metavar="FLAGS", help="more flags of ernie-serve, in one string")
    add("--labelled", type=Path, metavar="TSV", help="label and text_a, to compare labels on; needs --trained")
    add("--trained", type=Path, metavar="BUNDLE", help="a trained classifier in fp32")
    add("--trained-int8", type=Path, metavar="BUNDLE", help="the same in int8")
    add("--output", type=Path, default=Path("build/peers/speed"), help="files to write (default: %(default)s)")
    add("--draw", type=Path, metavar="JSON", help="only make tables and plots of an earlier run")
    return made


def main() -> None:
    """The command."""
    arguments = parser().parse_args()
    if arguments.draw:
        print(write_report(Measured.read(arguments.draw), arguments.output))
        return
    if arguments.labelled and not arguments.trained:
        raise SystemExit("--labelled needs --trained, a bundle with these labels.")
    # By default SIGTERM would leave a running server behind, and write no figures.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    uvloop.install()  # what the client takes of the machine, the server lacks
    run = Run(arguments, workloads_of(arguments))
    run.rounds()
    if arguments.labelled:
        int8 = open_bundle(arguments.trained_int8) if arguments.trained_int8 else None
        run.labels(arguments.labelled, open_bundle(arguments.trained), int8)
    run.measured.save(arguments.output.with_suffix(".json"))
    print(write_report(run.measured, arguments.output))


if __name__ == "__main__":
    main()
