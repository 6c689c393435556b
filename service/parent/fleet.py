"""The fleet: keeps one engine for each model and the API processes running, and replaces models.

The parent process answers no requests, so no request can block it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
import signal
import socket
from collections.abc import Coroutine
from typing import Any

import msgspec

from model_build.bundle import Bundle, BundleError, read_repository
from service.endpoints import SERVED_TASKS
from service.messages.control import ModelEntry, Reloaded
from service.messages.launch import START_FAILED, BatchingOptions
from service.messages.local_socket import new_address
from service.metrics import Metrics
from service.parent.child import child_command
from service.parent.control import Control
from service.parent.key_file import KeysError, read_keys
from service.parent.restarts import Restarts
from service.parent.silence import Silence
from service.parent.supervisor import EngineStartFailed, Running, Supervisor, WatchOptions
from service.runtime.base import RuntimeOptions
from service.runtime.choice import chosen
from service.settings import Settings, revealed

log = logging.getLogger(__name__)

ENGINE_STOP_SECONDS = 10.0
IMPORT_SECONDS = 60.0
# A worker may need this much longer to stop than its own limits allow.
GRACE_SECONDS = 5.0


@dataclasses.dataclass
class Load:
    """One bundle with its engine. A name has two loads only while the new one replaces the old one."""

    number: int
    bundle: Bundle
    engine: Supervisor


def batching(settings: Settings) -> BatchingOptions:
    """The limits of batches. The default size depends on the device.

    On the CPU, a batch of more than a few hundred tokens has no higher throughput, and all of its texts are answered
    later.
    """
    tokens = settings.max_batch_tokens or (512 if settings.device == "cpu" else 8192)
    return BatchingOptions(
        max_batch_tokens=tokens,
        background_batch_tokens=max(512, tokens // 4),
        max_batch_items=settings.max_batch_items,
        max_wait=settings.max_wait_ms / 1000,
    )


class Fleet:
    """All processes of one `ernie-serve`."""

    def __init__(self, settings: Settings, bundles: list[Bundle], listener: socket.socket) -> None:
        self._settings = settings
        self._bundles = bundles
        self._listener = listener
        self._socket = new_address()
        self._metrics = Metrics(bundles)
        self._numbers = itertools.count(1)
        self._served: dict[str, Load] = {}
        self._reloading = asyncio.Lock()
        self._control = Control(
            revealed(settings), read_keys(settings), self.reload, settings.api_workers, self._worker_alive
        )
        self._silences: dict[int, Silence] = {}
        self._workers: dict[int, asyncio.subprocess.Process] = {}
        self._ending: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[object]] = set()
        self._stopping = False

    async def run(self) -> None:
        """Serves until SIGTERM or SIGINT. Raises EngineStartFailed if the service cannot start or continue."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._end, None, self._settings.drain_delay_seconds)
        loop.add_signal_handler(signal.SIGINT, self._end, None)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._background(self.reload()))
        async with self._control.listening(self._socket):
            self._served = {bundle.manifest.name: self._load(bundle) for bundle in self._bundles}
            self._publish()
            workers = [asyncio.create_task(self._keep_worker()) for _ in range(self._settings.api_workers)]
            self._background(self._start())
            self._background(self._metrics.keep_files())
            try:
                failure = await self._ending
                await asyncio.wait(workers, timeout=self._longest_drain())
            finally:
                self._stopping = True
                for worker in list(self._workers.values()):
                    worker.kill()
                await asyncio.gather(*workers)
                await asyncio.gather(*(load.engine.stop(ENGINE_STOP_SECONDS) for load in self._served.values()))
        if failure:
            raise EngineStartFailed(failure)

    def _background(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _end(self, failure: str | None, delay_seconds: float = 0.0) -> None:
        """Drains the workers; a second call stops them immediately."""
        self._stopping = True
        self._control.drain(delay_seconds)
        for pid, silence in self._silences.items():
            if not silence.heard_once:  # it accepts no connections yet
                self._workers[pid].kill()
        # While this process keeps the socket open, new connections wait instead of being refused.
        asyncio.get_running_loop().call_later(delay_seconds, self._listener.close)
        if not self._ending.done():
            self._ending.set_result(failure)

    def _longest_drain(self) -> float:
        return self._settings.drain_delay_seconds + self._settings.shutdown_seconds + GRACE_SECONDS

    # Models and engines

    def _load(self, bundle: Bundle) -> Load:
        settings, name = self._settings, bundle.manifest.name
        runtime = RuntimeOptions(
            runtime=settings.runtime,
            backend=settings.backend,
            device=settings.device,
            device_id=settings.device_id,
            streams=settings.streams,
            cpu_threads=settings.cpu_threads,
            precision=settings.precision,
            max_batch=settings.max_batch_items,
            max_length=bundle.manifest.max_length,
            cache_directory=str(settings.tensorrt_cache) if settings.tensorrt_cache else None,
        )
        watching = WatchOptions(
            settings.probe_seconds, settings.hang_seconds, settings.start_seconds, settings.max_restarts
        )
        load = Load(next(self._numbers), bundle, Supervisor(bundle, runtime, batching(settings), watching))
        load.engine.on_change = lambda running: self._changed(load, running)
        load.engine.on_batch = lambda batch: self._metrics.batch_done(name, batch)
        load.engine.on_alive = lambda alive: self._metrics.queued(name, alive.queue_items, alive.queue_tokens)
        load.engine.on_restart = self._metrics.restarts.labels(name).inc
        load.engine.on_give_up = self._end
        return load

    def _changed(self, load: Load, running: Running | None) -> None:
        """Publishes that an engine is ready, or has stopped."""
        name = load.bundle.manifest.name
        if running is None:
            self._metrics.queued(name, 0, 0)
        if self._served.get(name) is load:
            self._metrics.ready.labels(name).set(bool(running and running.responsive))
            self._publish()

    def _publish(self) -> None:
        models = []
        for load in self._served.values():
            running = load.engine.running
            socket, responsive = (running.socket, running.responsive) if running else (None, False)
            name, directory = load.bundle.manifest.name, str(load.bundle.directory.resolve())
            models.append(ModelEntry(load.number, name, directory, socket, responsive))
        self._control.publish(models)

    async def _start(self) -> None:
        """Starts every engine for the first time. A reload waits until then."""
        async with self._reloading:
            try:
                await asyncio.gather(*(self._start_one(load) for load in self._served.values()))
            except EngineStartFailed as error:
                self._end(str(error))

    async def _start_one(self, load: Load) -> None:
        await load.engine.start()
        self._metrics.serve(load.bundle, True)
        assert load.engine.running
        ready = load.engine.running.ready
        _, others = chosen(load.bundle, load.engine.runtime)
        because = f" ({', '.join(others)})" if others else ""
        log.info(
            "%s is ready on %s%s, warm after %.1f s",
            load.bundle.manifest.name,
            ready.backend,
            because,
            ready.warmup_seconds,
        )

    async def reload(self) -> Reloaded:
        """Reads the repository again. Models are replaced one after the other, so that only one is in memory twice."""
        # First, because loading models takes time, and a removed key must stop working immediately.
        done = Reloaded(refused=self._renew_keys())
        async with self._reloading:
            try:
                # In a thread: while it reads graphs, the parent must hear the other processes.
                bundles, refused = await asyncio.to_thread(read_repository, self._settings.models, SERVED_TASKS)
            except BundleError as error:
                bundles, refused = [load.bundle for load in self._served.values()], {str(self._settings.models): error}
            done.refused.update({name: str(error) for name, error in refused.items()})
            for bundle in bundles:
                await self._take_over(bundle, done)
            names = {bundle.manifest.name for bundle in bundles}
            for name in [name for name in self._served if name not in names]:
                if any(path.split("/")[0] == name for path in refused):
                    continue  # its bundle on disk is broken, but the loaded one works
                await self._retire(self._served.pop(name))
                done.unloaded.append(name)
            log.info("reloaded: %s", msgspec.json.encode(done).decode())
            return done

    def _renew_keys(self) -> dict[str, str]:
        """Reads the API keys again. If they cannot be used, returns the reason; the old keys stay valid."""
        try:
            self._control.replace_keys(read_keys(self._settings))
        except KeysError as error:
            return {"API keys": str(error)}
        return {}

    async def _take_over(self, bundle: Bundle, done: Reloaded) -> None:
        """Replaces the load of the same name by `bundle` once its engine is warm."""
        name = bundle.manifest.name
        old = self._served.get(name)
        if old and (old.bundle.directory, old.bundle.manifest) == (bundle.directory, bundle.manifest):
            done.unchanged.append(name)
            return
        self._metrics.add(bundle)
        new = self._load(bundle)
        try:
            await self._start_one(new)
        except EngineStartFailed as error:
            self._metrics.serve(bundle, False)
            done.refused[name] = str(error)
            return
        self._served[name] = new
        self._changed(new, new.engine.running)
        done.loaded.append(name)
        if old:
            await self._retire(old)

    async def _retire(self, load: Load) -> None:
        """Stops an engine after the last request that needs it."""
        name = load.bundle.manifest.name
        self._metrics.serve(load.bundle, False)
        if name not in self._served:
            self._metrics.ready.labels(name).set(0)
        self._publish()
        await self._control.unused(load.number)
        await load.engine.stop(ENGINE_STOP_SECONDS)

    # Workers

    async def _keep_worker(self) -> None:
        """Runs one API process and restarts it when it fails, up to `max_restarts` times in a row."""
        loop, restarts = asyncio.get_running_loop(), Restarts(self._settings.max_restarts)
        while not self._stopping:
            began = loop.time()
            worker = await asyncio.create_subprocess_exec(
                *child_command("service.api.worker"),
                *("--control", self._socket, "--listener", str(self._listener.fileno())),
                pass_fds=[self._listener.fileno()],
            )
            self._workers[worker.pid] = worker
            status = await self._exit_status(worker)
            del self._workers[worker.pid]
            self._metrics.forget(worker.pid)
            if self._stopping:
                return
            log.error("an API process ended with status %s", status)
            if status == START_FAILED:
                self._end("an API process cannot start; the line before says why.")
                return
            delay = restarts.delay(loop.time() - began)
            if delay is None:
                self._end(f"an API process has failed {restarts.failures} times in a row.")
                return
            log.warning("starting another API process in %.1f s", delay)
            await asyncio.wait({self._ending}, timeout=delay)

    def _worker_alive(self, pid: int) -> None:
        if silence := self._silences.get(pid):
            silence.heard()

    async def _exit_status(self, worker: asyncio.subprocess.Process) -> int:
        """The exit status of an API process. One that is silent for `hang_seconds` is killed."""
        loop, every = asyncio.get_running_loop(), self._settings.beat_seconds
        silence = self._silences[worker.pid] = Silence(every, loop.time())
        ended = asyncio.ensure_future(worker.wait())
        while not (await asyncio.wait({ended}, timeout=every))[0]:
            silent = silence.seconds(loop.time())
            # Until it is heard for the first time, it imports its modules.
            limit = self._settings.hang_seconds + (0.0 if silence.heard_once else IMPORT_SECONDS)
            if silent > limit and not self._stopping:
                log.error("an API process has been silent for %.0f s", silent)
                worker.kill()
        del self._silences[worker.pid]
        return ended.result()
