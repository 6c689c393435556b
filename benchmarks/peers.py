"""The service beside other libraries' services and beside its own runtimes with no server in front of them.

    python -m benchmarks.peers --output docs/speed

Peers are FastAPI with ONNX Runtime and no batching, LitServe and mosec, each in an environment of its own that is made
when it is missing (build/peers; needs uv and a package registry). All servers answer the same requests of one text,
with the same answers, and run one at a time: in every round each is started, checked, loaded and stopped, so that a
change of the machine meets all alike. Client and server share the machine.

The closed loop is wrk's where it is installed. An open loop follows in the last round: requests at random moments
(Poisson) at shares of the peak. Everything measured goes to OUTPUT.json, plots to OUTPUT-*.svg, and the tables between
the marks in OUTPUT.md, or to a new file; --draw makes tables and plots of an earlier JSON file again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from benchmarks.agreement import (
    SAME_ANSWERS,
    Labelled,
    asked,
    label_agreement,
    largest_difference,
    offline_scores,
)
from benchmarks.ceiling import ceiling
from benchmarks.closed_loop import Loop, body_file, by_python, by_wrk, has_wrk
from benchmarks.contenders import OURS, PEERS, Contender, Ours, Peer, Running
from benchmarks.http_connection import post
from benchmarks.http_load import TEXTS, bodies_of
from benchmarks.machine import machine
from benchmarks.measured import Agreement, Client, Closed, Labels, Measured, Offline, Open
from benchmarks.offline import OfflineModel
from benchmarks.overload import offer, percentile
from benchmarks.speed_report import write_report
from benchmarks.stages import PADDING, mean, scraped, stages
from model_build.bundle import Bundle, open_bundle
from service.runtime.base import RuntimeOptions
from service.settings import read_settings

# A token takes at least one character, so with [CLS] and [SEP] no text is longer than 128 tokens.
MOST_CHARACTERS = 126
# Enough of both kinds for every length; asked one by one of every server.
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
        """What the bodies ask about."""
        return {kind: [json.loads(body)["inputs"] for body in bodies] for kind, bodies in self.bodies.items()}

    def bundle_of(self, contender: Contender) -> Bundle | None:
        """What a contender serves; None where it has nothing to serve here."""
        if isinstance(contender, Peer):
            return self.plain if contender.plain else self.bundle
        return self.int8 if contender.int8 else self.bundle


class Run:
    """One run: what is compared, how, and what was found."""

    def __init__(self, arguments: argparse.Namespace, workloads: Sequence[Workload]) -> None:
        self.arguments = arguments
        self.workloads = workloads
        self.flags = tuple(shlex.split(arguments.service_flags))
        wanted = [word.lower() for word in arguments.only]
        self.contenders = [
            each for each in (*PEERS, *OURS) if not wanted or any(word in each.name.lower() for word in wanted)
        ]
        self.measured = Measured(machine(), settings_of(arguments, workloads))

    def rounds(self) -> None:
        """Measures everything, and writes what there is even where it stops half-way."""
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
                with body_file(bodies) as file:
                    for connections in self.arguments.connections:
                        self.closed(number, workload, contender, server, kind, file, connections)
            if number == self.arguments.rounds - 1 and workload.endpoint == OPEN_ENDPOINT:
                for kind in workload.bodies:
                    self.open(workload, contender, server, kind)

    def offline(self, number: int, workload: Workload, contender: Ours, bundle: Bundle) -> bool:
        """The ceiling of a runtime; False where it cannot run here, which is noted."""
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(workload.texts, file)
            file.flush()
            told = ceiling(bundle, runtime_options(contender, self.flags), Path(file.name), self.arguments.seconds / 2)
        if refusal := told.get("refusal"):
            self.measured.skipped[contender.name] = str(refusal)
            _say(f"skipped: {refusal}")
            return False
        for kind, rates in told["rates"].items():
            found = Offline(contender.name, workload.endpoint, kind, number, told["streams"], rates)
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
        self, number: int, workload: Workload, contender: Contender, server: Running, kind: str, file: Path,
        connections: int,
    ) -> None:  # fmt: skip
        """A stretch of a closed loop after a shorter one that is not counted."""

        def loop(seconds: int) -> Loop:
            if has_wrk():
                return by_wrk(server.url, workload.endpoint, file, connections, seconds)
            return by_python(server.url, workload.endpoint, workload.bodies[kind], connections, seconds)

        loop(1)
        server.settle()
        ours = isinstance(contender, Ours)
        before, cpu = scraped(server.url) if ours else {}, server.cpu_seconds()
        done = loop(self.arguments.seconds)
        cpu = server.cpu_seconds() - cpu
        if not done.requests:
            raise RuntimeError(
                f"{connections} connections got no answer in {done.seconds:.1f} s; set --seconds higher."
            )
        server.settle()
        found = Closed(
            contender.name, workload.endpoint, kind, connections, number,
            done.rate, done.p50, done.p99, 1000 * cpu / done.requests,
        )  # fmt: skip
        if ours:
            after = scraped(server.url)
            found.stages, found.padding = stages(before, after), mean(before, after, PADDING)
        self.measured.closed.append(found)
        _say(f"{kind}, {connections} connections: {done.rate:.0f} requests/s, p99 {done.p99:.1f} ms")

    def open(self, workload: Workload, contender: Contender, server: Running, kind: str) -> None:
        """Shares of the peak of this client, which takes more of the machine than wrk does; raises RuntimeError."""
        connections, seconds = max(self.arguments.connections), self.arguments.seconds
        own = by_python(server.url, workload.endpoint, workload.bodies[kind], connections, seconds).rate
        same = self.measured.stretches(contender.name, workload.endpoint, kind, connections)[-1]
        client = Client(contender.name, workload.endpoint, kind, own, same.rate if has_wrk() else None)
        self.measured.clients.append(client)
        requests = [post(server.url, workload.endpoint, body) for body in workload.bodies[kind]]
        for share in self.arguments.open_loop:
            server.settle()
            found = asyncio.run(offer(server.url, requests, share * own, seconds, 1, SETTLING_SECONDS))
            if found.refused or found.lost or found.unsent:
                raise RuntimeError(
                    f"{len(found.refused)} answers were not of status 200, {sum(found.lost.values())} requests were "
                    f"lost and {found.unsent} not sent."
                )
            p50, p99 = percentile(found.served, 50), percentile(found.served, 99)
            self.measured.open.append(Open(contender.name, workload.endpoint, kind, share, found.goodput, p50, p99))
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


def runtime_options(contender: Ours, flags: Sequence[str]) -> RuntimeOptions:
    """As ernie-serve makes them of its flags."""
    given = read_settings(["--runtime", contender.runtime, "--precision", contender.precision, *flags])
    wanted = {name: getattr(given, name) for name in RuntimeOptions.__struct_fields__ if hasattr(given, name)}
    return RuntimeOptions(**wanted)


def read_texts(path: Path) -> list[str]:
    """One text a line, or the last column of a TSV, whose head is left out if its first column is `label`."""
    lines = path.read_text(encoding="utf-8").split("\n")
    if lines[0].startswith("label\t"):
        del lines[0]
    return [text for line in lines if (text := line.rpartition("\t")[2].strip())]


def built_in_texts() -> dict[str, list[str]]:
    """Of http_load's ten texts: pairs of two as reviews, their beginnings as titles."""
    return {
        "reviews": [f"{left}{right}" for left in TEXTS for right in TEXTS],
        "titles": [text[:24] for text in TEXTS],
    }


def chosen_texts(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """By kind: the same ones every time, cut to 128 tokens."""
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
    """What a reader has to know of how it was measured."""
    told = {
        "rounds": f"{arguments.rounds} of {arguments.seconds} s",
        "client": "wrk, one thread" if has_wrk() else "the own generator; wrk is not installed",
        "flags of ernie-serve": arguments.service_flags or "none but the runtime and its precision",
    }
    for each in workloads:
        shape = each.bundle.manifest.architecture
        told[f"model of {each.endpoint}"] = (
            f"{each.bundle.manifest.name} {each.bundle.manifest.version}: {shape.get('num_hidden_layers')} layers of "
            f"{shape.get('hidden_size')}, vocabulary of {shape.get('vocab_size')}"
        )
    for kind, given in workloads[0].texts.items():
        told[kind] = f"{len(given)} texts of {sum(map(len, given)) / len(given):.0f} characters on average"
    return told


@contextmanager
def _named(step: str) -> Iterator[None]:
    """Says what is being done, and names it where it fails."""
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
        prog="python -m benchmarks.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
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
    add("--seconds", type=int, default=3, help="length of a measured stretch (default: 3)")
    add("--connections", type=int, nargs="+", default=[1, 16, 64], help="of the closed loop (default: 1 16 64)")
    add("--open-loop", type=float, nargs="*", default=[0.3, 0.6, 0.85], metavar="SHARE",
        help="of the peak, for /classify; none leaves the open loop out (default: 0.3 0.6 0.85)")  # fmt: skip
    add("--only", nargs="+", default=[], metavar="WORD", help="servers with one of these words in their names")
    add("--service-flags", default="", metavar="FLAGS", help="more flags of ernie-serve, in one string")
    add("--labelled", type=Path, metavar="TSV", help="label and text_a, to compare labels on; needs --trained")
    add("--trained", type=Path, metavar="BUNDLE", help="a trained classifier in fp32")
    add("--trained-int8", type=Path, metavar="BUNDLE", help="the same in int8")
    add("--output", type=Path, default=Path("build/peers/speed"), help="what files to write (default: %(default)s)")
    add("--draw", type=Path, metavar="JSON", help="only tables and plots of an earlier run")
    return made


def main() -> None:
    """The command."""
    arguments = parser().parse_args()
    if arguments.draw:
        print(write_report(Measured.read(arguments.draw), arguments.output))
        return
    if arguments.labelled and not arguments.trained:
        raise SystemExit("--labelled needs --trained, a bundle that knows these labels.")
    # By default SIGTERM would leave the server that runs behind, and write nothing.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    uvloop.install()  # the client's share of the machine is the server's loss
    run = Run(arguments, workloads_of(arguments))
    run.rounds()
    if arguments.labelled:
        int8 = open_bundle(arguments.trained_int8) if arguments.trained_int8 else None
        run.labels(arguments.labelled, open_bundle(arguments.trained), int8)
    run.measured.save(arguments.output.with_suffix(".json"))
    print(write_report(run.measured, arguments.output))


if __name__ == "__main__":
    main()
