"""CPU time that one short request costs outside the forward pass: microseconds of the API process and of the engine.

    python -m benchmarks.host_path --endpoint /classify

A bundle of one narrow layer with the vocabulary of the embedded models makes the forward pass nearly free; what is left
of it is measured by itself, on the batches that the service has had, and taken off. wrk sends one text of 4 to 58
characters a request over connections that stay open. CPU seconds are those that the kernel counts for each process.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import re
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil

from benchmarks.closed_loop import body_file, by_wrk, has_wrk
from benchmarks.http_load import TEXTS, bodies_of
from benchmarks.service_process import RunningService, serving
from model_build.bundle import Task, find_bundles, open_bundle, read_vocabulary

EMBEDDED = Path(__file__).parent.parent / "models"
TASKS: dict[str, Task] = {"/classify": "classify", "/fill-mask": "fill-mask"}
MAX_LENGTH = 128
# Tokens of a text of TEXTS, about; the pass by itself is measured on rows of this length.
USUAL_LENGTH = 32
T = TypeVar("T")


def make(task: Task, models: Path) -> None:
    """Exports a bundle whose forward pass is as short as one can be."""
    from model_build.checkpoint import Checkpoint, save_checkpoint
    from model_build.config import ErnieConfig
    from model_build.export import export_checkpoint
    from model_build.heads import ErnieForMaskedLM, ErnieForSequenceClassification

    tokens = read_vocabulary(find_bundles(EMBEDDED)[0].vocab_path)
    config = ErnieConfig(
        vocab_size=len(tokens),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        max_position_embeddings=MAX_LENGTH,
    )
    model = ErnieForMaskedLM(config) if task == "fill-mask" else ErnieForSequenceClassification(config, 2)
    with tempfile.TemporaryDirectory() as folder:
        vocab = Path(folder) / "vocab.txt"
        vocab.write_text("\n".join(tokens) + "\n", encoding="utf-8")
        about = Checkpoint(config, task, MAX_LENGTH, ["negative", "positive"] if task == "classify" else [])
        save_checkpoint(Path(folder) / "checkpoint", about, model, vocab, [])
        export_checkpoint(Path(folder) / "checkpoint", models, name=task)


def pass_seconds(bundle: Path, rows: int) -> float:
    """CPU seconds of one forward pass by itself, of so many rows; the median of several runs of a hundred."""
    import numpy as np

    from service.runtime.base import RuntimeOptions
    from service.runtime.load import load_runtime

    loaded = open_bundle(bundle)
    runtime = load_runtime(loaded, RuntimeOptions(cpu_threads=1))
    ids = np.full((rows, USUAL_LENGTH), 5, dtype=np.int64)
    arrays = {"input_ids": ids, "token_type_ids": np.zeros_like(ids)}
    if loaded.manifest.task == "fill-mask":
        arrays["mask_positions"] = np.arange(rows, dtype=np.int64) * USUAL_LENGTH + 1
        arrays["target_ids"] = np.zeros((rows, 1), dtype=np.int64)
    taken = []
    for _ in range(9):
        begun = time.process_time()
        for _ in range(100):
            runtime.run(arrays)
        taken.append((time.process_time() - begun) / 100)
    return statistics.median(taken[1:])


def apart(work: Callable[..., T], *arguments: object) -> T:
    """What `work` returns in a process of its own: Paddle and FastDeploy do not belong into one."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


@dataclass(frozen=True)
class Round:
    """Microseconds of CPU a request in the API process and in the engine, requests a second, texts a pass."""

    api: float
    engine: float
    rate: float
    rows: float


def passes(service: RunningService, name: str) -> tuple[float, float]:
    """Texts and forward passes so far."""
    text = urllib.request.urlopen(f"{service.url}/metrics").read().decode()
    rows, count = (
        re.search(rf'^ernie_batch_requests_{kind}{{model="{name}"}} (\S+)', text, re.M) for kind in ("sum", "count")
    )
    assert rows is not None
    assert count is not None
    return float(rows.group(1)), float(count.group(1))


def measure(service: RunningService, endpoint: str, bodies: Path, connections: int, seconds: int) -> Round:
    """One round of load."""
    task = TASKS[endpoint]
    children = service.children()
    processes: list[psutil.Process] = [children["worker"][0], children[task][0]]
    before = passes(service, task)
    used = [sum(each.cpu_times()[:2]) for each in processes]
    loop = by_wrk(service.url, endpoint, bodies, connections, seconds)
    api, engine = (
        (sum(each.cpu_times()[:2]) - before) / loop.requests * 1e6 for each, before in zip(processes, used, strict=True)
    )
    rows, number = (now - then for now, then in zip(passes(service, task), before, strict=True))
    return Round(api, engine, loop.rate, rows / number)


def _shown(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.0f} ({min(values):.0f}–{max(values):.0f})"


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.host_path", description=__doc__.splitlines()[0])
    parser.add_argument("--endpoint", choices=tuple(TASKS), default="/classify")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 64], help="(default: 1 16 64)")
    parser.add_argument("--seconds", type=int, default=3, help="length of a round (default: 3)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each number of connections (default: 5)")
    parser.add_argument("--bundle", type=Path, help="folder to keep the bundle in, and to take it from if it is there")
    arguments = parser.parse_args()
    if not has_wrk():
        raise SystemExit("wrk is not installed; on Debian and Ubuntu: apt-get install wrk.")
    task = TASKS[arguments.endpoint]
    with contextlib.ExitStack() as stack:
        folder = arguments.bundle or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if not (folder / task).is_dir():
            apart(make, task, folder)
        service = stack.enter_context(serving(folder / task / "1", "--cpu-threads", "1"))
        bodies = stack.enter_context(body_file(bodies_of(arguments.endpoint, TEXTS)))
        by_wrk(service.url, arguments.endpoint, bodies, max(arguments.connections), 1)  # not counted
        rounds: dict[int, list[Round]] = {connections: [] for connections in arguments.connections}
        for _ in range(arguments.rounds):
            for connections, done in rounds.items():
                done.append(measure(service, arguments.endpoint, bodies, connections, arguments.seconds))
        print(
            f"{arguments.endpoint}, CPU microseconds a request, {arguments.rounds} rounds of {arguments.seconds} s: "
            "median (lowest–highest)"
        )
        print("connections | API process | engine | its passes | both without passes | requests/s | texts a pass")
        for connections, done in rounds.items():
            rows = max(1, round(statistics.median([each.rows for each in done])))
            of_pass = apart(pass_seconds, folder / task / "1", rows) / rows * 1e6
            columns = (
                str(connections),
                _shown([each.api for each in done]),
                _shown([each.engine for each in done]),
                f"{of_pass:.0f}",
                _shown([each.api + each.engine - of_pass for each in done]),
                _shown([each.rate for each in done]),
                f"{statistics.median([each.rows for each in done]):.1f}",
            )
            print(" | ".join(columns))


if __name__ == "__main__":
    main()
