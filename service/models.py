"""The models of an API process: each a bundle with its tokenizer, its admission and the link to its engine."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from opentelemetry import trace

from model_build.bundle import Bundle, BundleError, Task, open_bundle
from service.admission import Admission, Place
from service.control import Model, Table
from service.engine.client import EngineFailed, EngineLink
from service.engine.messages import FrameError, Item, Output
from service.metrics import Metrics
from service.problems import Problem
from service.schemas import Asked, GivenText
from service.settings import Settings
from service.tasks import ENDPOINTS
from service.tokenization import tokenizer_named
from service.windows import NoRoom, Windows

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass
class Timings:
    """Seconds of one request, for Server-Timing."""

    tokenize: float = 0.0
    queue: float = 0.0
    inference: float = 0.0


def spans(timings: Timings) -> None:
    """OpenTelemetry spans of what a request has just gone through, below the span of the request, where one is kept."""
    if not trace.get_current_span().is_recording():
        return
    tracer, end = trace.get_tracer("ernie"), time.time_ns()
    parts = (("inference", timings.inference), ("queue", timings.queue), ("tokenize", timings.tokenize))
    for name, seconds in parts:
        start = end - int(seconds * 1e9)
        tracer.start_span(name, start_time=start).end(end)
        end = start


class ServedModel:
    """One bundle behind HTTP."""

    def __init__(self, bundle: Bundle, settings: Settings, metrics: Metrics) -> None:
        self.bundle = bundle
        self.manifest = bundle.manifest
        self.name = bundle.manifest.name
        lower = bundle.manifest.tokenizer.do_lower_case
        self.tokenizer = tokenizer_named(settings.tokenizer, bundle.vocab_path, lower)
        self.admission = Admission(settings.max_queue_requests, settings.max_queue_tokens, share=settings.api_workers)
        self.engine = EngineLink()
        self.responsive = True
        """Whether the supervisor has lately seen a forward pass of the engine."""
        self._socket: str | None = None
        self._attaching: asyncio.Task[None] | None = None
        self._users = 0
        self._unused = asyncio.Event()
        self._settings = settings
        self._metrics = metrics
        self._tokenize_seconds = metrics.tokenize.labels(self.name)
        self._queue_seconds = metrics.queue.labels(self.name)
        self._in_flight = metrics.in_flight.labels(self.name)

    @property
    def ready(self) -> bool:
        """Whether the engine has warmed up and is known to run."""
        return self.engine.ready is not None and self.responsive

    def follow(self, entry: Model, attached: Callable[[], None]) -> None:
        """Connects to the engine process that the table names, and calls `attached` when that is done.

        It is not waited for: an engine that hangs says nothing, and the others are served meanwhile.
        """
        self.responsive = entry.responsive
        if entry.socket and entry.socket != self._socket:
            self._socket = entry.socket
            if self._attaching:
                self._attaching.cancel()
            self._attaching = asyncio.create_task(self._attach(entry.socket, attached))

    async def _attach(self, socket: str, attached: Callable[[], None]) -> None:
        try:
            await self.engine.attach(Path(socket))
        except (OSError, EngineFailed, FrameError) as error:
            # It has ended already; the table will name the next one.
            log.warning("%s: no connection to the engine: %s", self.name, error)
            if self._socket == socket:
                self._socket = None
        else:
            attached()

    async def leave(self) -> None:
        """Ends the connection to the engine."""
        if self._attaching:
            self._attaching.cancel()
        await self.engine.detach()

    def _enter(self) -> None:
        self._users += 1
        self._in_flight.inc()
        if self._users == 1:
            self._unused.clear()

    def _leave(self) -> None:
        self._users -= 1
        self._in_flight.dec()
        if not self._users:
            self._unused.set()

    async def unused(self) -> None:
        """Returns when no request needs the engine any more; what is still to be sent to a client needs it not."""
        if self._users:
            await self._unused.wait()

    def labels(self, count: int) -> list[str]:
        """Names of `count` classes; LABEL_0, LABEL_1 … where the bundle has none."""
        return self.manifest.labels or [f"LABEL_{index}" for index in range(count)]

    async def answered(self, request: Asked, timings: Timings, work: Callable[[Session], Awaitable[T]]) -> T:
        """What `work` makes of a session with the engine; raises Problem for all that may go wrong on the way."""
        limit = self._settings.max_inputs
        if len(request.inputs) > limit:
            raise Problem(
                "too_large", f"the request has {len(request.inputs)} inputs, but at most {limit} are allowed."
            )
        if not self.engine.ready:
            raise Problem("not_ready", f"the engine of {self.name} is starting; try again soon.")
        seconds = (request.timeout_ms or self._settings.request_timeout_ms) / 1000
        # Its place is taken before anything is spent on the request: overload is answered at once.
        with self.admission.admit() as place:
            self._enter()
            session = Session(self, self._settings, request, timings, time.monotonic() + seconds, place)
            try:
                with Deadline(seconds):
                    result = await work(session)
            except asyncio.TimeoutError:
                raise Problem("deadline_exceeded", "the request's time ran out before it was answered.") from None
            except EngineFailed as error:
                raise Problem(error.code, str(error), retry_after=self.admission.retry_after()) from error
            finally:
                self._leave()
        if self._settings.otel:
            spans(timings)
        self._tokenize_seconds.observe(timings.tokenize)
        self._queue_seconds.observe(timings.queue)
        if session.truncated:
            self._metrics.truncated.labels(self.name).inc(len(session.truncated))
        return result


class Session:
    """One request's dealings with the tokenizer and the engine of a model."""

    def __init__(
        self,
        model: ServedModel,
        settings: Settings,
        request: Asked,
        timings: Timings,
        deadline: float,
        place: Place,
    ) -> None:
        self.model = model
        self.settings = settings
        self.truncated: set[str] = set()
        """the inputs that were cut, each once though it may be encoded in several variants"""
        self._request = request
        self._timings = timings
        self._deadline = deadline
        self._place = place

    async def encode(self, index: int, given: GivenText) -> tuple[Windows, bool]:
        """The windows of `inputs[index]`, and whether it was cut instead; raises Problem `invalid_input`."""
        if index:
            await asyncio.sleep(0)  # short texts are encoded in one step each, and there may be hundreds
        begun = time.perf_counter()
        try:
            return await self._encode(f"inputs[{index}]", given)
        finally:
            self._timings.tokenize += time.perf_counter() - begun

    async def _encode(self, name: str, given: GivenText) -> tuple[Windows, bool]:
        limit, model = self.model.manifest.max_length, self.model.name
        encoding = await self.model.tokenizer.encode(given.text, given.text_pair, limit)
        if not encoding.truncated:
            return Windows(encoding, limit), False
        if self._request.truncation == "truncate":
            self.truncated.add(name)
            return Windows(encoding, limit), True
        if self._request.truncation == "error":
            raise Problem(
                "invalid_input",
                f"{name} has {encoding.full_length} tokens, but {model} takes at most {limit}; "
                'shorten it, or send "truncation": "window" or "truncate".',
            )
        # Bounded before it is encoded whole: a window adds at least half of its length.
        most = self.settings.max_windows
        if encoding.full_length <= most * limit:
            whole = await self.model.tokenizer.encode(given.text, given.text_pair, encoding.full_length)
            try:
                windows = Windows(whole, limit)
            except NoRoom:
                raise Problem(
                    "invalid_input",
                    f"{name} has a text_pair that leaves no room for windows of {limit} tokens; "
                    'shorten it, or send "truncation": "truncate".',
                ) from None
            if len(windows.spans) <= most:
                return windows, False
        raise Problem(
            "invalid_input",
            f"{name} has {encoding.full_length} tokens, more than {most} windows of {limit} hold; "
            'split it, or send "truncation": "truncate".',
        )

    async def infer(self, items: Sequence[Item]) -> list[Output]:
        """Results of the items, all in one request to the engine; raises Problem and EngineFailed."""
        tokens = sum(len(item.input_ids) for item in items)
        with self._place.holding(tokens):
            answer = await self.model.engine.infer(items, self._deadline, self._request.priority)
        self._timings.queue += answer.queue_seconds
        self._timings.inference += answer.inference_seconds
        return answer.outputs


def give_back_memory() -> None:
    """Returns what a model has left behind to the operating system, so that exchanges do not add up."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # glibc has it
        ctypes.CDLL(None).malloc_trim(0)


class Deadline:
    """Raises asyncio.TimeoutError out of the block after so many seconds; no task of its own, as wait_for has."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._expired = False

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        self._timer = loop.call_later(self._seconds, self._expire, task)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._timer.cancel()
        if self._expired and kind is asyncio.CancelledError:
            raise asyncio.TimeoutError from None

    def _expire(self, task: asyncio.Task[Any]) -> None:
        self._expired = task.cancel()


class Models:
    """Every model of an API process by name."""

    def __init__(self, bundles: Sequence[Bundle], settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._serial = 0
        self._loads: dict[int, ServedModel] = {}
        self._wanted: set[int] = set()
        self._missing: list[str] = []
        self._leaving: dict[int, asyncio.Task[None]] = {}
        self.on_in_use: Callable[[int, list[int]], None] = lambda serial, numbers: None
        """Told the serial of the table in force and the loads that have requests, or may get some."""
        self._told = bool(bundles)
        self.served = {bundle.manifest.name: ServedModel(bundle, settings, metrics) for bundle in bundles}

    async def apply(self, table: Table) -> None:
        """Serves what the table says. Requests that are under way end with the engine they began with."""
        loaded = [(entry, self._loads.get(entry.number) or await self._load(entry)) for entry in table.models]
        self._serial, self._told = table.serial, True
        self._missing = [entry.name for entry, model in loaded if model is None]
        self._wanted = {entry.number for entry in table.models}
        for entry, model in loaded:
            if model:
                self._loads[entry.number] = model
                model.follow(entry, attached=self._serve)
        self._serve()

    def _serve(self) -> None:
        """Serves the loads of the table, but what was served by a name before until its successor can be asked."""
        served = {}
        for number in sorted(self._wanted & self._loads.keys()):
            model = self._loads[number]
            before = self.served.get(model.name)
            served[model.name] = before if before and before.ready and not model.engine.ready else model
        self.served = served
        for number in [number for number in self._loads if number not in self._wanted]:
            if self._loads[number] not in served.values():
                self._leaving[number] = asyncio.create_task(self._leave(number, self._loads.pop(number)))
        self._report()

    async def _load(self, entry: Model) -> ServedModel | None:
        try:
            bundle = open_bundle(Path(entry.directory))
            self._metrics.add(bundle)
            return await asyncio.to_thread(ServedModel, bundle, self._settings, self._metrics)
        except (BundleError, OSError) as error:
            log.error("%s cannot be loaded: %s", entry.name, error)
            return None

    async def _leave(self, number: int, model: ServedModel) -> None:
        await model.unused()
        await model.leave()
        del self._leaving[number]
        del model
        give_back_memory()
        self._report()

    def _report(self) -> None:
        self.on_in_use(self._serial, sorted({*self._loads, *self._leaving}))

    def named(self, name: str) -> ServedModel:
        """Raises Problem: `model_not_found`, or `not_ready` where it may only be late."""
        model = self.served.get(name)
        if model is None:
            if not self._told or name in self._missing:
                raise Problem("not_ready", f"the model {name!r} is not loaded; try again soon.")
            raise Problem("model_not_found", f"there is no model {name!r}; there is {', '.join(self.served)}.")
        return model

    def for_task(self, name: str | None, task: Task) -> ServedModel:
        """The model asked for, or the only one of the task; raises Problem."""
        if name is not None:
            model = self.named(name)
            if model.manifest.task != task:
                raise Problem("wrong_task", f"the model {name!r} is for {model.manifest.task}, not for {task}.")
            return model
        able = [model for model in self.served.values() if model.manifest.task == task]
        if not able:
            if not self._told or self._missing:
                raise Problem("not_ready", f"no model for {task} is loaded; try again soon.")
            raise Problem("model_not_found", f"no model of this service is for {task}.")
        if len(able) > 1:
            names = ", ".join(model.name for model in able)
            raise Problem("invalid_input", f"model is missing, and several are for {task}: {names}.")
        return able[0]

    def refusal(self, path: str) -> tuple[Problem, str] | None:
        """`overloaded` where no model that a request to `path` may be for has a place left, and the model.

        The name is empty where there are several: only a body that nobody reads would tell.
        """
        able = [
            model
            for model in self.served.values()
            if path == ENDPOINTS[model.manifest.task] or path.startswith(f"/v2/models/{model.name}/")
        ]
        if able and all(model.admission.full for model in able):
            return able[0].admission.overloaded(), able[0].name if len(able) == 1 else ""
        return None

    @property
    def unready(self) -> str | None:
        """What is missing for every model to be ready, in one sentence; None where nothing is."""
        if self._missing:
            return f"{', '.join(self._missing)} cannot be loaded; the log says why."
        if waiting := [model.name for model in self.served.values() if not model.ready]:
            return f"the engine of {', '.join(waiting)} is starting, or has not answered lately."
        return None if self.served else "no model is loaded yet."

    async def stop(self) -> None:
        """Leaves every engine."""
        await asyncio.gather(*(model.leave() for model in {*self._loads.values(), *self.served.values()}))
        for task in self._leaving.values():
            task.cancel()
