"""Starts an engine process, watches it, and restarts it when it dies, hangs or stops making progress."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from model_build.bundle import Bundle
from service.messages import local_socket
from service.messages.frames import READ_BYTES, FrameError, FrameReader, frame
from service.messages.inference import Alive, BatchDone, Probe, Ready, ToApi
from service.messages.launch import START_FAILED, BatchingOptions
from service.messages.local_socket import new_address
from service.parent.child import child_command
from service.parent.restarts import Restarts
from service.parent.silence import Silence
from service.runtime.base import RuntimeOptions

log = logging.getLogger(__name__)

CONNECT_EVERY_SECONDS = 0.02


class EngineStartFailed(Exception):
    """The first start of an engine failed; the message is the last line of the engine's standard error."""


@dataclass(frozen=True)
class WatchOptions:
    """When an engine counts as healthy. Times are in seconds."""

    probe_seconds: float = 10.0
    """Time between two probes; an engine answers after a forward pass that is at most this old."""
    hang_seconds: float = 60.0
    """An engine that is silent for this long is killed; after a third of it, it is not ready."""
    start_seconds: float = 600.0
    """An engine that has not warmed up after this time is killed; TensorRT takes minutes to build its graphs."""
    max_restarts: int = 5
    """The service ends after this many restarts without a minute of service in between; 0: it never does."""


@dataclass(frozen=True)
class Running:
    """An engine process that has warmed up."""

    socket: str
    """Its address (messages/local_socket.py)."""
    ready: Ready
    responsive: bool = True
    """Whether it has answered a recent probe."""


class Supervisor:
    """One engine process for one bundle, until it is stopped."""

    def __init__(
        self,
        bundle: Bundle,
        runtime: RuntimeOptions | None = None,
        batching: BatchingOptions | None = None,
        watch_options: WatchOptions | None = None,
    ) -> None:
        self.bundle = bundle
        self.running: Running | None = None
        self.on_change: Callable[[Running | None], None] = lambda _: None
        self.on_batch: Callable[[BatchDone], None] = lambda _: None
        self.on_alive: Callable[[Alive], None] = lambda _: None
        self.on_restart: Callable[[], None] = lambda: None
        self.on_give_up: Callable[[str], None] = lambda _: None
        self.runtime = runtime or RuntimeOptions()
        self._batching = batching or BatchingOptions()
        self._watch_options = watch_options or WatchOptions()
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._quarantine: int | None = None
        """Descriptor of the memory that holds what an engine was running when it died (engine/quarantine.py)."""
        self._hung = False
        """Whether the engine was killed because it hung."""
        self._killed = False
        """Whether the engine before was killed from outside."""

    @property
    def pid(self) -> int | None:
        """Process id of the engine."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Returns when the engine has warmed up; restarts it from then on. Raises EngineStartFailed."""
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._keep_running(started))
        await started

    async def stop(self, seconds: float = 10.0) -> None:
        """Stops the engine when its queue is empty, after `seconds` at the latest; before it is warm, immediately."""
        self._stopping = True
        if self._process and self._process.returncode is None:
            assert self._process.stdin
            if not self.running:
                self._process.kill()
            self._process.stdin.write(b".")
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._process.wait(), seconds)
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, EngineStartFailed):
                await self._task

    def _change(self, running: Running | None) -> None:
        if running != self.running:
            self.running = running
            self.on_change(running)

    async def _keep_running(self, started: asyncio.Future[None]) -> None:
        self._quarantine = os.memfd_create("quarantine")
        try:
            await self._restart(started)
        finally:
            os.close(self._quarantine)

    async def _restart(self, started: asyncio.Future[None]) -> None:
        """Runs one engine after the other."""
        name, restarts = self.bundle.manifest.name, Restarts(self._watch_options.max_restarts)
        while not self._stopping:
            served_seconds = 0.0
            try:
                served_seconds = await self._run_once(started)
            except (EngineStartFailed, OSError, asyncio.TimeoutError) as error:
                sentence = str(error) or f"the engine was not ready after {self._watch_options.start_seconds:g} s."
                if not started.done():
                    started.set_exception(EngineStartFailed(sentence))
                    return
                log.error("%s: the engine could not be restarted: %s", name, sentence)
            if self._stopping:
                return
            delay = restarts.delay(served_seconds)
            if delay is None:
                self.on_give_up(f"the engine of {name} has failed {restarts.failures} times in a row.")
                return
            self.on_restart()
            log.warning("%s: starting the engine again in %.1f s", name, delay)
            await asyncio.sleep(delay)

    async def _run_once(self, started: asyncio.Future[None]) -> float:
        """Runs one engine process from start to end; returns the seconds it served after it had warmed up."""
        loop = asyncio.get_running_loop()
        socket = new_address()
        self._hung = False
        process = self._process = await self._spawn(socket)
        errors = asyncio.create_task(_last_line(process))
        try:
            connecting = self._connect(process, socket, errors)
            reader, writer, ready = await asyncio.wait_for(connecting, self._watch_options.start_seconds)
            warm = loop.time()
            self._change(Running(socket, ready))
            if not started.done():
                started.set_result(None)
            await self._watch(process, reader, writer)
            served_seconds = loop.time() - warm
        finally:
            self._change(None)
            # Usually it has stopped or is stopping. Killing it immediately could lose its exit status.
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(process.wait(), 1.0)
            if process.returncode is None:
                process.kill()
                await process.wait()
            errors.cancel()
        self._killed = process.returncode == -signal.SIGKILL and not self._hung
        if not self._stopping:
            log.error("%s: the engine ended with status %s", self.bundle.manifest.name, process.returncode)
        return served_seconds

    async def _spawn(self, socket: str) -> asyncio.subprocess.Process:
        assert self._quarantine is not None
        return await asyncio.create_subprocess_exec(
            *child_command("service.engine.__main__"),
            *("--socket", socket),
            *("--bundle", str(self.bundle.directory.resolve())),
            *("--runtime", msgspec.json.encode(self.runtime).decode()),
            *("--batching", msgspec.json.encode(self._batching).decode()),
            *("--quarantine", str(self._quarantine)),
            *(["--killed"] if self._killed else []),
            pass_fds=[self._quarantine],
            # The engine stops when this pipe is closed, so it never outlives the service.
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def _connect(
        self, process: asyncio.subprocess.Process, socket: str, errors: asyncio.Task[str]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Ready]:
        """Waits until the engine has warmed up and listens."""
        while process.returncode is None:
            if connection := await connect(socket):
                return connection
            await asyncio.sleep(CONNECT_EVERY_SECONDS)
        sentence = await errors
        if process.returncode == START_FAILED:
            raise EngineStartFailed(sentence)
        raise EngineStartFailed(
            f"the engine of {self.bundle.directory} died with status {process.returncode} while it loaded the graph or "
            f"ran it on {self.bundle.manifest.max_length} tokens; the last line of its log: {sentence or 'none'}"
        )

    async def _watch(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Reads the engine's messages until it stops; kills it if it hangs."""
        frames = FrameReader(ToApi)
        loop = asyncio.get_running_loop()
        every = min(self._watch_options.probe_seconds, self._watch_options.hang_seconds / 4)
        silence, asked = Silence(every, loop.time()), float("-inf")
        read = asyncio.ensure_future(reader.read(READ_BYTES))
        try:
            while self._judge(silence.seconds(loop.time())):
                if loop.time() - asked >= every:
                    writer.write(frame(Probe(self._watch_options.probe_seconds)))
                    asked = loop.time()
                await asyncio.wait({read}, timeout=max(0.0, asked + every - loop.time()))
                if read.done():
                    if not (data := read.result()):
                        return
                    for message in frames.feed(data):
                        if isinstance(message, BatchDone):
                            self.on_batch(message)
                        elif isinstance(message, Alive):
                            # A finished batch does not show that the other streams still run.
                            silence.heard()
                            self.on_alive(message)
                    read = asyncio.ensure_future(reader.read(READ_BYTES))
            self._hung = not _is_suspended(process.pid)
            process.kill()
        except (ConnectionError, FrameError):
            return  # the engine has stopped or cannot be used; the caller kills it
        finally:
            read.cancel()
            writer.close()

    def _judge(self, silent: float) -> bool:
        """Whether an engine that has been silent for `silent` seconds may continue; records its responsiveness."""
        if self.running:
            responsive = silent <= self._watch_options.hang_seconds / 3
            self._change(dataclasses.replace(self.running, responsive=responsive))
        if silent <= self._watch_options.hang_seconds:
            return True
        log.error("%s: the engine has been silent for %.0f s", self.bundle.manifest.name, silent)
        return False


def _is_suspended(pid: int) -> bool:
    """Whether a signal has stopped the process (proc(5), state T), so that its input is not why it is silent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


async def _last_line(process: asyncio.subprocess.Process) -> str:
    """Copies the engine's standard error to the log; returns its last line."""
    last = ""
    assert process.stderr is not None
    while line := await process.stderr.readline():
        last = line.decode("utf-8", "replace").strip() or last
        log.info("engine %d: %s", process.pid, line.decode("utf-8", "replace").rstrip())
    return last


async def connect(address: str | Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Ready] | None:
    """Connects to an engine; None if no engine listens, or if it stops before it has warmed up."""
    try:
        connected = await local_socket.connect(address)
    except ConnectionRefusedError:
        return None
    reader, writer = await asyncio.open_unix_connection(sock=connected)
    frames = FrameReader(ToApi)
    while data := await reader.read(READ_BYTES):
        for message in frames.feed(data):
            if isinstance(message, Ready):
                return reader, writer, message
    writer.close()
    return None
