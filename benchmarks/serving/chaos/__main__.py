"""Mixed traffic of all endpoints and kinds of clients, while processes, the temporary folder and bundles fail.

    python -m benchmarks.serving.chaos --minutes 30 --seed 1

The service runs as separate processes: two API processes and two small models, with an API key. A seeded schedule kills
and stops processes, fills the temporary folder, exchanges bundles, offers damaged bundles, sends signals, and limits
memory and file descriptors, one fault after the other. Every request must get exactly one answer. It must be the right
one, which the service gave before the faults, or a refusal that the fault of that moment allows. Counters in /metrics
must equal those of the clients and never fall. Memory, open files and the latency of /health/live are bounded.

To fill the temporary folder and to limit memory by a control group, the command must run as root. Otherwise the report
names what was left out. Ends with status 1 where something was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from tqdm import tqdm

from benchmarks.arguments import parser_of
from benchmarks.rounds import progress
from benchmarks.serving.chaos.clients import Client, Target
from benchmarks.serving.chaos.faults import Faults, Victim, put_version
from benchmarks.serving.chaos.ledger import Ledger, counted, miscounted
from benchmarks.serving.chaos.limits import TemporaryFolder
from benchmarks.serving.chaos.observation import Liveness, Observation
from benchmarks.serving.chaos.questions_of import CLASSIFIER, LM, Asking
from benchmarks.serving.chaos.report import Run, report
from benchmarks.serving.chaos.timeline import Timeline
from benchmarks.serving.growth import Memory
from benchmarks.serving.metrics import Metrics
from benchmarks.serving.questions import OFFLINE_RUNTIME, tolerance_of
from benchmarks.serving.service import Service, serving
from benchmarks.serving.soak import copied
from model_build.bundle import find_bundles

KEY = "chaos-key"
BODY_SECONDS = 4.0
HANG_SECONDS = 6.0
MAX_BODY_BYTES = 256 << 10
MEMORY_EVERY_SECONDS = 2.0
FLAGS = {
    "--max-restarts": "0", "--body-seconds": f"{BODY_SECONDS:g}", "--hang-seconds": f"{HANG_SECONDS:g}",
    "--probe-seconds": "1", "--max-body-bytes": str(MAX_BODY_BYTES), "--request-timeout-ms": "20000",
}  # fmt: skip


def repository(models: Path, folder: Path) -> Path:
    """A copy of the two models as version 1, with the labels of that version."""
    for bundle in find_bundles(models):
        if (name := bundle.manifest.name) in (CLASSIFIER, LM):
            copied(bundle.directory, folder / name / "0", version="0")
            put_version(folder / name, "1")
    if missing := {CLASSIFIER, LM} - {each.name for each in folder.iterdir() if (each / "1").is_dir()}:
        raise SystemExit(f"{models} lacks the model {missing.pop()}; --models takes a folder like models/.")
    return folder


async def run(
    service: Service, victim: Victim, arguments: argparse.Namespace, tolerances: dict[str, float], scratch: Path
) -> Run:
    """Traffic, faults and samples at the same time; then the comparison of the counters."""
    rng = random.Random(arguments.seed)
    timeline = Timeline(time.monotonic)
    for name in (CLASSIFIER, LM):
        timeline.serves(name, "1")
    questions = await Asking(service.url, KEY, tolerances, rng).questions(arguments.questions)
    ledger = Ledger(timeline)
    observation, memory = Observation(service, scratch / "live"), Memory(service)
    files, before = observation.open_files(), Metrics.of(service.url)
    target, serial = Target(service.url, KEY, MAX_BODY_BYTES, BODY_SECONDS), itertools.count(1)
    clients = [Client(target, questions, ledger, random.Random(rng.random()), serial) for _ in range(arguments.clients)]
    faults = Faults(victim, timeline, random.Random(arguments.seed), ledger.wrong, shown)
    ended = asyncio.Event()
    await observation.start()
    harming = asyncio.create_task(faults.run(ended, arguments.gap))
    watching = [observation.watch(ended), memory.watch(ended, MEMORY_EVERY_SECONDS)]
    tasks = [asyncio.create_task(each) for each in (*(each.run(ended, arguments.pause) for each in clients), *watching)]
    try:
        await wait(arguments.minutes * 60, [harming, *tasks], ledger)
    finally:
        ended.set()
        await asyncio.gather(harming, *tasks)
        observation.stop()
    if service.process.poll() is None and await faults.recovered():
        ledger.wrong += await observation.leaks(files)
    else:
        ledger.wrong.append("the service was not ready at the end")
    ledger.close()
    found = counted(before, Metrics.of(service.url)) if service.process.poll() is None else {}
    ledger.wrong += miscounted(ledger, found) + observation.rising.wrong
    live = Liveness.read(scratch / "live", timeline, arguments.live_ms)
    ledger.wrong += live.wrong
    return Run(arguments, ledger, timeline, found, live, memory, observation, victim.folder.reason)


async def wait(seconds: float, tasks: list[asyncio.Task[None]], ledger: Ledger) -> None:
    """Shows the time that is left; returns early if a task has failed."""
    deadline = time.monotonic() + seconds
    with progress(total=round(seconds), unit="s") as bar:
        while (left := deadline - time.monotonic()) > 0:
            done, _ = await asyncio.wait(tasks, timeout=min(1.0, left), return_when=asyncio.FIRST_EXCEPTION)
            if any(each.exception() for each in done):
                return
            bar.set_postfix(requests=len(ledger.ended), wrong=len(ledger.wrong), refresh=False)
            bar.update(round(seconds - left) - bar.n)


def shown(line: str) -> None:
    """A line of the time line, above the bar."""
    tqdm.write(line, file=sys.stdout)


def main() -> int:
    """Runs it and prints the report."""
    parser = parser_of(__doc__, models=True, seed=True)
    parser.add_argument("--minutes", type=float, default=30.0, help="duration (default: 30)")
    parser.add_argument("--clients", type=int, default=16, help="concurrent clients (default: 16)")
    parser.add_argument("--pause", type=float, default=0.1, help="mean seconds between two clients (default: 0.1)")
    parser.add_argument("--gap", type=float, default=2.0, help="mean seconds between two faults (default: 2)")
    parser.add_argument("--questions", type=int, default=30, help="requests of each kind to choose from (default: 30)")
    parser.add_argument("--api-workers", type=int, default=2, help="API processes (default: 2)")
    parser.add_argument("--runtime", default=OFFLINE_RUNTIME, help=f"of the service (default: {OFFLINE_RUNTIME})")
    parser.add_argument("--live-ms", type=float, default=250.0, help="limit of p99.9 of /health/live (default: 250)")
    parser.add_argument("--warm-up", type=float, default=10.0, help="minutes in which memory may grow (default: 10)")
    parser.add_argument("--output", type=Path, help="JSON to write")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        models = repository(arguments.models, scratch / "models")
        tolerances = {each.manifest.name: tolerance_of(each, arguments.runtime) for each in find_bundles(models)}
        folder = TemporaryFolder(scratch / "tmp")
        flags = {**FLAGS, "--runtime": arguments.runtime, "--api-workers": str(arguments.api_workers)}
        settings = {"ERNIE_ADMIN": "true", "ERNIE_API_KEYS": KEY, "TMPDIR": str(folder.path)}
        try:
            with serving(models, *itertools.chain(*flags.items()), settings=settings) as service:
                victim = Victim(service, models, folder, KEY, arguments.api_workers, HANG_SECONDS)
                done = asyncio.run(run(service, victim, arguments, tolerances, scratch))
            if service.process.returncode:
                done.ledger.wrong.append(f"the service ended with status {service.process.returncode}")
        finally:
            folder.close()
    document = report(done)
    if arguments.output:
        arguments.output.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return 1 if done.ledger.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
