"""A probe of the supervisor is answered by an engine whose graph runs, and by no other."""

import asyncio
import os
from pathlib import Path

import numpy as np
import pytest

from model_build.bundle import open_bundle
from service.engine.batching import Batcher
from service.engine.loop import EngineLoop
from service.engine.tensors import Tensors
from service.messages.frames import FrameReader, frame
from service.messages.inference import Alive, Probe, ToApi
from service.messages.launch import BatchingOptions
from service.parent.supervisor import connect
from service.runtime.base import RuntimeOptions
from service.runtime.choice import load_runtime


class Counted:
    """A real runtime whose forward passes are counted, and which can break."""

    def __init__(self, directory: Path) -> None:
        self._runtime = load_runtime(open_bundle(directory), RuntimeOptions(cpu_threads=1))
        self.backend, self.streams = self._runtime.backend, self._runtime.streams
        self.compiles_shapes = self._runtime.compiles_shapes
        self.passes = 0
        self.broken = False

    def run(self, inputs: dict[str, np.ndarray], stream: int = 0) -> dict[str, np.ndarray]:
        if self.broken:
            raise RuntimeError("the graph has gone")
        self.passes += 1
        return self._runtime.run(inputs, stream)

    def close(self) -> None:
        self._runtime.close()


async def test_an_idle_engine_runs_its_graph_to_answer_a_probe_and_ends_where_it_cannot(
    tiny_models: Path, tmp_path: Path
) -> None:
    directory, path = tiny_models / "reviews" / "1", tmp_path / "engine"
    runtime = Counted(directory)
    engine = EngineLoop(runtime, Tensors(open_bundle(directory)), Batcher(BatchingOptions()))
    engine.warm_up()
    parent, child = os.pipe()
    serving = asyncio.create_task(asyncio.to_thread(engine.serve, path, parent))
    while not path.exists():
        await asyncio.sleep(0.01)
    connection = await connect(path)
    assert connection
    reader, writer, _ = connection
    frames = FrameReader(ToApi)

    async def probe(max_age_seconds: float) -> list[object]:
        writer.write(frame(Probe(max_age_seconds)))
        while not (answers := list(frames.feed(await reader.read(1 << 16)))):
            pass
        return answers

    try:
        warm = runtime.passes
        for max_age_seconds, passes in ((3600.0, warm), (0.0, warm + 1), (3600.0, warm + 1)):
            (answer,) = await asyncio.wait_for(probe(max_age_seconds), 30)
            assert isinstance(answer, Alive)
            assert runtime.passes == passes
        runtime.broken = True
        writer.write(frame(Probe(0.0)))
        with pytest.raises(RuntimeError, match="the graph has gone"):
            await asyncio.wait_for(serving, 30)
    finally:
        os.write(child, b".")  # or the thread would go on where a check fails
        writer.close()
