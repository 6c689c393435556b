"""Where the time of a training step on the CPU goes, and the gain of gradients written by hand.

    python -m benchmarks.training.training_step --shape nano-512 --dropout 0.1

A step is forward, backward, clipping and AdamW on one batch of random tokens, 15 % of them to be predicted, with
sentence order. `model_build.cpu_gradients` and Paddle's own gradients take turns within a round on the same model, and
ratios are taken within each round. The share of an operator is of the time spent in all of them, by Paddle's profiler.
The rate counts matrix products only, and is compared with that of one product of two large matrices.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.arguments import parser_of
from benchmarks.rounds import alternate, median, ratios, spread
from model_build.config import ErnieConfig
from training.runs import cpu_environment

PREDICTED_SHARE = 0.15
OPERATORS_SHOWN = 12
LARGE_MATRIX = 2048


@dataclass(frozen=True)
class Shape:
    """A model and the rows of its batches."""

    layers: int
    hidden: int
    heads: int
    ffn: int
    activation: str
    vocabulary: int
    rows: int
    length: int

    def config(self, dropout: float) -> ErnieConfig:
        return ErnieConfig(
            vocab_size=self.vocabulary, hidden_size=self.hidden, num_hidden_layers=self.layers,
            num_attention_heads=self.heads, intermediate_size=self.ffn, hidden_act=self.activation,
            max_position_embeddings=512, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
        )  # fmt: skip

    def gigaflops(self) -> float:
        """Operations in the matrix products of a step: two for every weight and token forward, twice that backward."""
        tokens = self.rows * self.length
        encoder = self.layers * tokens * (4 * self.hidden**2 + 2 * self.hidden * self.ffn)
        attention = self.layers * tokens * 2 * self.length * self.hidden
        head = tokens * PREDICTED_SHARE * (self.hidden**2 + self.hidden * self.vocabulary)
        return 6 * (encoder + attention + head) / 1e9


SHAPES = {
    "nano-512": Shape(4, 312, 12, 1248, "gelu", 18_000, 16, 512),
    "nano-128": Shape(4, 312, 12, 1248, "gelu", 18_000, 64, 128),
    "small-64": Shape(3, 160, 5, 640, "relu", 4_800, 32, 64),
}


@dataclass(frozen=True)
class Times:
    """Seconds of the parts of one step."""

    forward: float
    backward: float
    optimiser: float

    @property
    def step(self) -> float:
        return self.forward + self.backward + self.optimiser


def batch_of(shape: Shape, *, packed: bool) -> dict[str, np.ndarray]:
    """Random rows up to an eighth of which are padding; `packed` ones hold two texts each."""
    rng = np.random.default_rng(1)
    size = shape.rows, shape.length
    lengths = shape.length - rng.integers(1, shape.length // 8, shape.rows)
    columns = np.arange(shape.length)
    real = columns < lengths[:, None]
    cut = shape.length // 2
    batch = {
        "input_ids": np.where(real, rng.integers(1, shape.vocabulary, size), 0),
        "token_type_ids": np.where(columns < cut, 0, 1) * real,
        "mask_positions": np.sort(
            rng.choice(np.flatnonzero(real), round(shape.rows * shape.length * PREDICTED_SHARE), replace=False)
        ),
    }
    if packed:
        batch["position_ids"] = np.broadcast_to(columns % cut, size).copy()
        batch["segment_ids"] = np.where(columns < cut, 1, 2) * real
        starts = np.arange(shape.rows)[:, None] * shape.length + [0, cut]
        batch["cls_positions"] = starts.reshape(-1)
    return batch


def stepper(shape: Shape, dropout: float, *, packed: bool) -> Callable[[], Times]:
    """A function that trains one step at each call."""
    import paddle
    import paddle.nn.functional as F

    from model_build.heads import ErnieForPretraining
    from training.runs.optimizer import adamw, gradient_norm, scale_gradients

    paddle.seed(1)
    model = ErnieForPretraining(shape.config(dropout))
    model.train()
    optimiser = adamw(model, weight_decay=0.01)
    optimiser.set_lr(1e-4)
    batch = {name: paddle.to_tensor(array) for name, array in batch_of(shape, packed=packed).items()}
    rng = np.random.default_rng(2)
    labels = paddle.to_tensor(rng.integers(1, shape.vocabulary, len(batch["mask_positions"])))
    order = paddle.to_tensor(rng.integers(0, 2, len(batch.get("cls_positions", batch["input_ids"]))))

    def step() -> Times:
        begun = time.perf_counter()
        logits, order_logits = model(**batch)
        loss = F.cross_entropy(logits, labels) + F.cross_entropy(order_logits, order)
        forward = time.perf_counter()
        loss.backward()
        backward = time.perf_counter()
        scale_gradients(model.parameters(), min(1.0, 1 / gradient_norm(model.parameters())))
        optimiser.step()
        optimiser.clear_grad()
        return Times(forward - begun, backward - forward, time.perf_counter() - backward)

    return step


def matrix_product_rate() -> float:
    """GFLOP/s of the machine's best of three products of two large matrices."""
    import paddle

    one, other = paddle.rand([LARGE_MATRIX, LARGE_MATRIX]), paddle.rand([LARGE_MATRIX, LARGE_MATRIX])
    best = float("inf")
    for _ in range(3):
        begun = time.perf_counter()
        paddle.matmul(one, other)
        best = min(best, time.perf_counter() - begun)
    return 2 * LARGE_MATRIX**3 / best / 1e9


def operators(step: Callable[[], Times]) -> list[tuple[str, int, float]]:
    """Operators of a step, dearest first: name, calls, and share of the time spent in all of them."""
    from paddle import profiler
    from paddle.profiler.profiler_statistic import StatisticData

    with profiler.Profiler(targets=[profiler.ProfilerTarget.CPU], on_trace_ready=lambda _: None) as watched:
        step()
    found = StatisticData(watched.profiler_result.get_data(), watched.profiler_result.get_extra_info())
    # A PyLayer's backward pass is made of operators that are counted themselves, and so are older ones' inner parts.
    items = [
        item
        for name, item in found.event_summary.items.items()
        if name.endswith((" dygraph", "GradNode")) and not name.startswith("GradNodePyLayer")
    ]
    total = sum(item.cpu_time for item in items)
    named = [(item.name.removesuffix(" dygraph"), item.call, item.cpu_time / total) for item in items]
    return sorted(named, key=lambda operator: -operator[2])


def measure(name: str, dropout: float, rounds: int, *, packed: bool) -> None:
    """Prints the figures of one shape."""
    from model_build.cpu_gradients import paddle_gradients

    shape = SHAPES[name]
    step = stepper(shape, dropout, packed=packed)
    ways: dict[str, Callable[[], Any]] = {"Paddle's": paddle_gradients, "by hand": contextlib.nullcontext}

    def timed(switched: Callable[[], Any]) -> Times:
        with switched():
            return step()

    calls = {way: functools.partial(timed, switched) for way, switched in ways.items()}
    rates = [matrix_product_rate() for _ in range(rounds)]
    times = alternate(calls, rounds, warm_up=lambda: [call() for call in calls.values()])
    print(f"{name}, rows of {shape.length}{' with two texts' if packed else ''}, dropout {dropout:g}: {rounds} rounds")
    tokens = shape.rows * shape.length
    for way, taken in times.items():
        parts = ", ".join(
            f"{part} {median(getattr(each, part) for each in taken) * 1e3:,.0f}"
            for part in ("forward", "backward", "optimiser")
        )
        rate = shape.gigaflops() / median(each.step for each in taken)
        print(
            f"  gradients {way:8}  step {spread(each.step * 1e3 for each in taken)} ms: {parts};"
            f" {tokens / median(each.step for each in taken):,.0f} tokens/s; {rate:.0f} GFLOP/s"
            f" of {median(rates):.0f}"
        )
    print(f"  by hand {spread(ratios(*([each.step for each in taken] for taken in times.values())))} times as fast")
    for way, switched in ways.items():
        with switched():
            shares = operators(step)[:OPERATORS_SHOWN]
        print(f"  {way}: " + ", ".join(f"{operator} {share:.1%} ({calls})" for operator, calls, share in shares))


def main() -> None:
    """The command."""
    parser = parser_of(__doc__, rounds=5)
    parser.add_argument("--shape", choices=SHAPES, default="nano-512", help="model and rows (default: nano-512)")
    parser.add_argument("--dropout", type=float, default=0.1, help="of the whole model (default: 0.1)")
    parser.add_argument("--packed", action="store_true", help="two texts in a row")
    arguments = parser.parse_args()
    cpu_environment.prepare()
    measure(arguments.shape, arguments.dropout, arguments.rounds, packed=arguments.packed)


if __name__ == "__main__":
    main()
