"""Starts an engine process, watches it, and starts it again when it dies or hangs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

import service
from model_build.bundle import Bundle
from service.engine.batching import BatchingOptions
from service.engine.client import EngineClient, EngineFailed
from service.engine.exit_status import START_FAILED
from service.engine.messages import Answer, BatchDone, Item, Ready
from service.runtime.base import RuntimeOptions

log = logging.getLogger(__name__)

FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 10.0
CONNECT_EVERY_SECONDS = 0.02


class EngineStartFailed(Exception):
    """The first start of an engine failed; the message is the engine's own sentence."""


class Supervisor:
    """One engine process for one bundle, for as long as the service lives."""

    def __init__(
        self,
        bundle: Bundle,
        runtime: RuntimeOptions | None = None,
        batching: BatchingOptions | None = None,
        hang_seconds: float = 60.0,
    ) -> None:
        """`hang_seconds`: an engine that has requests and says nothing for so long is killed."""
        self.bundle = bundle
        self.on_batch: Callable[[BatchDone], None] = lambda _: None
        self.on_restart: Callable[[], None] = lambda: None
        self.on_ready: Callable[[bool], None] = lambda _: None
        self._runtime = runtime or RuntimeOptions()
        self._batching = batching or BatchingOptions()
        self._hang_seconds = hang_seconds
        self._client: EngineClient | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def ready(self) -> Ready | None:
        """What the running engine said of itself; None while none is ready."""
        return self._client.ready if self._client else None

    @property
    def in_flight(self) -> int:
        """Requests that wait for an answer."""
        return self._client.in_flight if self._client else 0

    @property
    def pid(self) -> int | None:
        """Process id of the engine."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def infer(self, items: Sequence[Item], deadline: float | None = None) -> Answer:
        """See EngineClient.infer; raises EngineFailed at once while no engine is ready."""
        if self._client is None:
            raise EngineFailed("engine_failed", "the engine is being restarted.")
        return await self._client.infer(items, deadline)

    async def start(self) -> None:
        """Returns when the engine has warmed up; raises EngineStartFailed. From then on it is kept running."""
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._keep_running(started))
        await started

    async def stop(self, seconds: float = 10.0) -> None:
        """Ends the engine: asks it to finish its queue, kills it after `seconds`."""
        self._stopping = True
        if self._process and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._process.wait(), seconds)
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, EngineStartFailed):
                await self._task

    async def _keep_running(self, started: asyncio.Future[None]) -> None:
        delay = FIRST_DELAY_SECONDS
        while not self._stopping:
            try:
                await self._run_once(started)
                delay = FIRST_DELAY_SECONDS
            except (EngineStartFailed, OSError) as error:
                if not started.done():
                    started.set_exception(EngineStartFailed(str(error)))
                    return
                log.error("%s: the engine could not be restarted: %s", self.bundle.manifest.name, error)
            if self._stopping:
                return
            self.on_restart()
            log.warning("%s: starting the engine again in %.1f s", self.bundle.manifest.name, delay)
            await asyncio.sleep(delay)
            delay = min(2 * delay, LONGEST_DELAY_SECONDS)

    async def _run_once(self, started: asyncio.Future[None]) -> None:
        """One engine process from start to end."""
        with tempfile.TemporaryDirectory(prefix="ernie-") as directory:
            socket = Path(directory) / "engine"
            process = self._process = await self._spawn(socket)
            errors = asyncio.create_task(_last_line(process))
            try:
                client = await self._connect(process, socket, errors)
                client.on_batch = lambda batch: self.on_batch(batch)
                self._client = client
                self.on_ready(True)
                if not started.done():
                    started.set_result(None)
                watchdog = asyncio.create_task(self._watch(client, process))
                try:
                    await client.listen()
                finally:
                    watchdog.cancel()
            finally:
                self._client = None
                self.on_ready(False)
                # Usually it has ended, or is about to; killing it before it is reaped would lose its status.
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(process.wait(), 1.0)
                if process.returncode is None:
                    process.kill()
                    await process.wait()
                errors.cancel()
            if not self._stopping:
                log.error("%s: the engine ended with status %s", self.bundle.manifest.name, process.returncode)

    async def _spawn(self, socket: Path) -> asyncio.subprocess.Process:
        root = str(Path(service.__file__).resolve().parent.parent)
        search = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "service.engine", "--socket", str(socket)),
            *("--bundle", str(self.bundle.directory.resolve())),
            *("--runtime", msgspec.json.encode(self._runtime).decode()),
            *("--batching", msgspec.json.encode(self._batching).decode()),
            # The engine ends when this pipe does, so it never outlives the service.
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": search},
        )

    async def _connect(
        self, process: asyncio.subprocess.Process, socket: Path, errors: asyncio.Task[str]
    ) -> EngineClient:
        """Waits until the engine has warmed up and listens."""
        while process.returncode is None:
            if socket.exists():
                with contextlib.suppress(ConnectionRefusedError, EngineFailed):
                    return await EngineClient.connect(socket)
            await asyncio.sleep(CONNECT_EVERY_SECONDS)
        sentence = await errors
        if process.returncode == START_FAILED:
            raise EngineStartFailed(sentence)
        raise EngineStartFailed(
            f"the engine of {self.bundle.directory} died with status {process.returncode} while it loaded the graph or "
            f"ran it on {self.bundle.manifest.max_length} tokens; its last words: {sentence or 'none'}"
        )

    async def _watch(self, client: EngineClient, process: asyncio.subprocess.Process) -> None:
        """Kills an engine that has work and stays silent; its requests then fail like those of a crash."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._hang_seconds / 4)
            silent = loop.time() - client.last_heard
            if client.in_flight and silent > self._hang_seconds:
                log.error("%s: the engine has said nothing for %.0f s", self.bundle.manifest.name, silent)
                process.kill()
                return


async def _last_line(process: asyncio.subprocess.Process) -> str:
    """Passes the engine's standard error on to the log; returns its last line."""
    last = ""
    assert process.stderr is not None
    while line := await process.stderr.readline():
        last = line.decode("utf-8", "replace").strip() or last
        log.info("engine %d: %s", process.pid, line.decode("utf-8", "replace").rstrip())
    return last
