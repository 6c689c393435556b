"""The real application over stand-in engines: graphs are not run, so that a test decides when an answer comes.

Everything else is the service's own: routes, middleware, validation, tokenisation, admission and metrics. What the
real engine process does is tested over real sockets elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx
from fastapi import FastAPI

from model_build.bundle import GraphFile, Manifest, Task, TensorSpec, open_bundle
from service.api.app import create_app
from service.messages.inference import Inferred, Item, MaskOutput, Output, Ready
from service.parent.key_file import read_keys
from service.settings import Settings

CHARACTERS = "今天气真好我们去公园散步吧北京是中国首都，。！"
TOKENS = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]", "ok", "##ay", "a", *dict.fromkeys(CHARACTERS)]
LABELS = ["差", "中", "好"]
MAX_LENGTH = 32
TOP_CANDIDATES = 20


class StandInEngine:
    """Answers like an engine: class scores 0.2, 0.1, 0.7, and candidates in vocabulary order.

    While `hold` is not set, requests wait; `taken` and `cancelled` tell what became of them.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.ready: Ready | None = Ready(len(LABELS), "stand-in", 0.0)
        self.hold = asyncio.Event()
        self.hold.set()
        self.taken = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.failure: Exception | None = None
        self.items: list[Item] = []

    async def infer(
        self, items: Sequence[Item], deadline: float | None = None, priority: str = "interactive"
    ) -> Inferred:
        self.items.extend(items)
        self.taken.set()
        try:
            await self.hold.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        if self.failure:
            raise self.failure
        return Inferred(1, [self._output(item) for item in items], 0.002, 0.003)

    def _output(self, item: Item) -> Output:
        if self.task == "classify":
            return Output(scores=[0.2, 0.1, 0.7])
        ids = list(range(TOP_CANDIDATES))
        scores = [0.5 / (place + 1) for place in ids]
        targets = [0.01 * target for target in item.target_ids]
        return Output(masks=[MaskOutput(ids, scores, targets) for _ in item.mask_positions])


def write_bundle(directory: Path, task: Task, name: str) -> Path:
    """A bundle whose graph file does not exist: enough for everything but an engine."""
    target = directory / name / "1"
    target.mkdir(parents=True)
    (target / "vocab.txt").write_text("\n".join(TOKENS), encoding="utf-8")
    manifest = Manifest(
        name=name,
        version="1",
        task=task,
        max_length=MAX_LENGTH,
        labels=LABELS if task == "classify" else [],
        graphs={"onnx": GraphFile(path="graph/model.onnx")},
        inputs=[TensorSpec(name=tensor, dtype="int64", shape=[-1, -1]) for tensor in ("input_ids", "token_type_ids")],
        outputs=[TensorSpec(name="logits", dtype="float32", shape=[-1, -1])],
        top_candidates=TOP_CANDIDATES if task == "fill-mask" else None,
    )
    (target / "bundle.json").write_text(manifest.model_dump_json(), encoding="utf-8")
    return target


def application(
    directory: Path, models: dict[str, Task], **settings: object
) -> tuple[FastAPI, dict[str, StandInEngine]]:
    """The application of `models`, and its engines by name."""
    bundles = [open_bundle(write_bundle(directory, task, name)) for name, task in models.items()]
    chosen = Settings(**settings)
    app = create_app(chosen, bundles, read_keys(chosen))  # type: ignore[arg-type]
    engines = {name: StandInEngine(task) for name, task in models.items()}
    for name, engine in engines.items():
        app.state.catalog.served[name].engine = engine
    return app, engines


@contextlib.asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a socket. An exception out of the application is an answer of status 500, as in uvicorn."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client
