"""The cost of padding, and the gain of packing several texts into a row: texts per second of a classifier.

    python -m benchmarks.graph.packing --texts test.tsv --max-length 128

Texts come in the order of the file, 64 are queued at any time, as from 64 connections in a closed loop, and one thread
runs them: in order of arrival, padded to the longest of a batch; in the batches of the service (`Batcher`); packed into
rows, in which a token attends to its own text only and positions begin anew with each text; or one at a time. Logits
must be equal to those of one text at a time, to 1e-4 in fp32; int8 rounds the values between layers.
"""

from __future__ import annotations

import functools
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.arguments import parser_of
from benchmarks.processes import separately
from benchmarks.rounds import alternate, cpu_seconds, spread, table
from benchmarks.serving.random_bundle import EMBEDDED
from model_build.bundle import find_bundles, open_bundle
from model_build.runners import Arrays
from service.engine.batching import Batcher
from service.messages.launch import BatchingOptions
from service.runtime.base import Runtime, RuntimeName, RuntimeOptions
from service.runtime.choice import RUNTIMES, load_runtime
from training.tasks.tokenizer import Tokenizer

WAITING = 64
ARRIVAL_BATCH = 16
MAX_DIFFERENCE = 1e-4
OVERHEADS = (64, 16, 4)
"""Settings of the batcher: the fixed cost of a forward pass in tokens; the default is 16."""
PACKED_ROWS = (128, 256, 512)
Rows = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Batch:
    """The texts that run together, and their arrays; outputs are in the order of `texts`."""

    texts: list[int]
    inputs: Arrays


def padded(rows: Rows, texts: list[int]) -> Batch:
    """A text a row."""
    ids = np.zeros((len(texts), max(len(rows[text]) for text in texts)), dtype=np.int64)
    for row, text in enumerate(texts):
        ids[row, : len(rows[text])] = rows[text]
    return Batch(texts, {"input_ids": ids, "token_type_ids": np.zeros_like(ids)})


def packed(rows: Rows, texts: list[int], length: int) -> Batch:
    """Puts the longest texts first, each into the first row with room."""
    packs: list[list[int]] = []
    room: list[int] = []
    for text in sorted(texts, key=lambda text: -len(rows[text])):
        size = len(rows[text])
        place = next((number for number, left in enumerate(room) if left >= size), len(packs))
        if place == len(packs):
            packs.append([])
            room.append(length)
        packs[place].append(text)
        room[place] -= size
    shape = (len(packs), length - min(room))
    ids, positions, segments = (np.zeros(shape, dtype=np.int64) for _ in range(3))
    order: list[int] = []
    first: list[int] = []
    for row, pack in enumerate(packs):
        start = 0
        for segment, text in enumerate(pack, start=1):
            span = slice(start, start + len(rows[text]))
            ids[row, span], positions[row, span], segments[row, span] = rows[text], np.arange(len(rows[text])), segment
            order.append(text)
            first.append(row * shape[1] + start)
            start = span.stop
    inputs = {"input_ids": ids, "token_type_ids": np.zeros_like(ids), "position_ids": positions,
              "segment_ids": segments, "cls_positions": np.array(first)}  # fmt: skip
    return Batch(order, inputs)


def arrivals(count: int, batch: int) -> Iterator[list[int]]:
    """Texts in their order of arrival."""
    for start in range(0, count, batch):
        yield list(range(start, min(start + batch, count)))


def batches_of(rows: Rows, overhead: int) -> list[Batch]:
    """The batches of the service, while 64 texts are queued and each answered text is followed by another."""
    queue = Batcher(BatchingOptions(overhead_tokens=overhead))
    left = iter(range(len(rows)))
    batches = []
    for text in itertools.islice(left, WAITING):
        queue.add(text, [len(rows[text])], 0.0)
    while batch := queue.next_batch(0.0):
        batches.append(padded(rows, [int(ticket.request) for ticket in batch]))  # type: ignore[call-overload]
        for text in itertools.islice(left, len(batch)):
            queue.add(text, [len(rows[text])], 0.0)
    return batches


def write_bundles(variant: str, models: Path) -> None:
    """`plain/1` and `packed/1` with the same weights, and `/2` in int8."""
    import paddle

    from benchmarks.graph.bundle import in_int8, write
    from benchmarks.graph.packed import PackedGraph
    from model_build.config import variant as config_of
    from model_build.export import LogitsGraph
    from model_build.heads import ErnieForSequenceClassification

    paddle.seed(1)
    config = config_of(variant)
    model = ErnieForSequenceClassification(config, 2)
    rng = np.random.default_rng(0)
    rows = [[1, *rng.integers(5, config.vocab_size, length), 2] for length in rng.integers(8, 60, 32)]
    for graph, name, batch in (
        (LogitsGraph(model, 2), "plain", padded(rows, list(range(32)))),
        (PackedGraph(model), "packed", packed(rows, list(range(32)), 128)),
    ):
        in_int8(write(graph, config, "classify", models, name, [batch.inputs]), graph, config, [batch.inputs])


def logits_of(runtime: Runtime, batches: Sequence[Batch], count: int) -> np.ndarray:
    """Logits [texts, 2], in the order of the file."""
    found = np.zeros((count, 2), dtype=np.float32)
    for batch in batches:
        found[batch.texts] = runtime.run(batch.inputs)["logits"]
    return found


def measure(models: Path, version: str, name: RuntimeName, rows: Rows, rounds: int) -> Iterator[tuple[str, ...]]:
    """A row of the table for each way."""
    options = RuntimeOptions(runtime=name, cpu_threads=1)
    plain, packing = (load_runtime(open_bundle(models / each / version), options) for each in ("plain", "packed"))
    count, tokens = len(rows), sum(map(len, rows))
    waiting = list(arrivals(count, WAITING))
    ways: dict[str, tuple[Runtime, list[Batch]]] = {
        "one text at a time": (plain, [padded(rows, [text]) for text in range(count)]),
        f"arrival, {ARRIVAL_BATCH} a batch": (plain, [padded(rows, each) for each in arrivals(count, ARRIVAL_BATCH)]),
        f"arrival, {WAITING} a batch": (plain, [padded(rows, each) for each in waiting]),
        **{f"the service's batches, a run {tokens_of_a_run} tokens": (plain, batches_of(rows, tokens_of_a_run))
           for tokens_of_a_run in OVERHEADS},
        **{f"packed into rows of {length}": (packing, [packed(rows, each, length) for each in waiting])
           for length in PACKED_ROWS},
    }  # fmt: skip
    want = logits_of(*ways["one text at a time"], count)
    differences = {way: float(np.abs(logits_of(*found, count) - want).max()) for way, found in ways.items()}
    for way, difference in differences.items():
        if version == "1" and not difference < MAX_DIFFERENCE:
            raise SystemExit(f"{way} differs by {difference:.1e} in {name}.")
    calls = {way: cpu_seconds(functools.partial(logits_of, *found, count)) for way, found in ways.items()}
    seconds = alternate(calls, rounds)
    for way, (_, batches) in ways.items():
        padding = 1 - tokens / sum(batch.inputs["input_ids"].size for batch in batches)
        rates = spread(count / each for each in seconds[way])
        precision = "fp32" if version == "1" else "int8"
        yield f"{name} {precision}, {way}", f"{len(batches)}", f"{padding:.1%}", rates, f"{differences[way]:.0e}"


def main() -> None:
    """The command."""
    parser = parser_of(__doc__, rounds=5)
    parser.add_argument("--texts", type=Path, required=True, help="a table, the text in its last column")
    parser.add_argument("--count", type=int, default=512, help="texts of it, from the start (default: 512)")
    parser.add_argument("--max-length", type=int, default=128, help="tokens at which a text is cut (default: 128)")
    parser.add_argument("--variant", default="ernie-3.0-nano-zh", help="shape of the model, with random weights")
    parser.add_argument("--runtimes", nargs="+", default=["openvino", "onnxruntime"], choices=RUNTIMES)
    arguments = parser.parse_args()
    encoder = Tokenizer(find_bundles(EMBEDDED)[0].vocab_path)
    lines = arguments.texts.read_text(encoding="utf-8").splitlines()[1 : 1 + arguments.count]
    rows = [encoder.encode(line.rpartition("\t")[2], max_length=arguments.max_length).ids for line in lines]
    sizes = list(map(len, rows))
    print(f"{len(rows)} texts of {min(sizes)} to {max(sizes)} tokens, {sum(sizes) / len(sizes):.0f} on average\n")
    with tempfile.TemporaryDirectory() as folder:
        separately(write_bundles, arguments.variant, Path(folder))
        for name, version in itertools.product(arguments.runtimes, "12"):
            found = measure(Path(folder), version, name, rows, arguments.rounds)
            print(table(("way", "batches", "padding", "texts/s", "largest difference"), found), flush=True)


if __name__ == "__main__":
    main()
