"""The models of an API process: each a bundle with its tokenizer, its admission and the link to its engine."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from opentelemetry import trace

from model_build.bundle import Bundle, BundleError, Task, open_bundle
from service.admission import Admission, Place
from service.control import Model, Table
from service.engine.client import EngineFailed, EngineLink
from service.engine.messages import Item, Output
from service.metrics import ENDPOINTS, Metrics
from service.problems import Problem
from service.schemas import Envelope, TextInput
from service.settings import Settings
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
        workers = settings.api_workers  # each has its share of the bounds
        self.admission = Admission(
            math.ceil(settings.max_queue_requests / workers),
            math.ceil(settings.max_queue_tokens / workers),
            time.monotonic,
        )
        self.engine = EngineLink()
        self.responsive = True
        """Whether the supervisor has lately seen a forward pass of the engine."""
        self._socket: str | None = None
        self._settings = settings
        self._metrics = metrics
        self._tokenize_seconds = metrics.tokenize.labels(self.name)
        self._queue_seconds = metrics.queue.labels(self.name)
        self._in_flight = metrics.in_flight.labels(self.name)

    @property
    def ready(self) -> bool:
        """Whether the engine has warmed up and is known to run."""
        return self.engine.ready is not None and self.responsive

    async def follow(self, entry: Model) -> None:
        """Connects to the engine process that the table names."""
        self.responsive = entry.responsive
        if entry.socket and entry.socket != self._socket:
            try:
                await self.engine.attach(Path(entry.socket))
            except (OSError, EngineFailed) as error:
                # It has ended already; the table will name the next one.
                log.warning("%s: no connection to the engine: %s", self.name, error)
                return
        self._socket = entry.socket

    def labels(self, count: int) -> list[str]:
        """Names of `count` classes; LABEL_0, LABEL_1 … where the bundle has none."""
        return self.manifest.labels or [f"LABEL_{index}" for index in range(count)]

    async def answered(self, request: Envelope, timings: Timings, work: Callable[[Session], Awaitable[T]]) -> T:
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
        with self.admission.admit() as place, self._in_flight.track_inprogress():
            session = Session(self, self._settings, request, timings, time.monotonic() + seconds, place)
            try:
                with deadline(seconds):
                    result = await work(session)
            except asyncio.TimeoutError:
                raise Problem("deadline_exceeded", "the request's time ran out before it was answered.") from None
            except EngineFailed as error:
                raise Problem(error.code, str(error), retry_after=self.admission.retry_after()) from error
        spans(timings)
        self._tokenize_seconds.observe(timings.tokenize)
        self._queue_seconds.observe(timings.queue)
        if session.truncated:
            self._metrics.truncated.labels(self.name).inc(session.truncated)
        return result


class Session:
    """One request's dealings with the tokenizer and the engine of a model."""

    def __init__(
        self,
        model: ServedModel,
        settings: Settings,
        request: Envelope,
        timings: Timings,
        deadline: float,
        place: Place,
    ) -> None:
        self.model = model
        self.settings = settings
        self.truncated = 0
        self._request = request
        self._timings = timings
        self._deadline = deadline
        self._place = place

    async def encode(self, index: int, given: TextInput) -> tuple[Windows, bool]:
        """The windows of `inputs[index]`, and whether it was cut instead; raises Problem `invalid_input`."""
        begun = time.perf_counter()
        try:
            return await self._encode(f"inputs[{index}]", given)
        finally:
            self._timings.tokenize += time.perf_counter() - begun
            await asyncio.sleep(0)  # short texts are encoded in one step each, and there may be hundreds

    async def _encode(self, name: str, given: TextInput) -> tuple[Windows, bool]:
        limit, model = self.model.manifest.max_length, self.model.name
        encoding = await self.model.tokenizer.encode(given.text, given.text_pair, limit)
        if not encoding.truncated:
            return Windows(encoding, limit), False
        if self._request.truncation == "truncate":
            self.truncated += 1
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


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raises asyncio.TimeoutError out of the block after so many seconds; no task of its own, as wait_for has."""
    task, expired = asyncio.current_task(), False
    assert task is not None

    def expire() -> None:
        nonlocal expired
        expired = task.cancel()

    timer = asyncio.get_running_loop().call_later(seconds, expire)
    try:
        yield
    except asyncio.CancelledError:
        if expired:
            raise asyncio.TimeoutError from None
        raise
    finally:
        timer.cancel()


class Models:
    """Every model of an API process by name."""

    def __init__(self, bundles: Sequence[Bundle], settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._serial = 0
        self._loads: dict[int, ServedModel] = {}
        self._leaving: dict[int, asyncio.Task[None]] = {}
        self.on_in_use: Callable[[int, list[int]], None] = lambda serial, numbers: None
        """Told the serial of the table in force and the loads that have requests, or may get some."""
        self.in_progress: set[asyncio.Task[Any]] = set()
        """The requests being answered; each may hold on to the models it found when it began."""
        self.served = {bundle.manifest.name: ServedModel(bundle, settings, metrics) for bundle in bundles}

    async def apply(self, table: Table) -> None:
        """Serves what the table says. Requests that are under way end with the engine they began with."""
        loads: dict[int, ServedModel] = {}
        for entry in table.models:
            if model := self._loads.get(entry.number) or await self._load(entry):
                await model.follow(entry)
                loads[entry.number] = model
        left = {number: model for number, model in self._loads.items() if number not in loads}
        self._serial, self._loads = table.serial, loads
        self.served = {model.name: model for model in loads.values()}
        for number, model in left.items():
            self._leaving[number] = asyncio.create_task(self._leave(number, model))
        self._report()

    async def _load(self, entry: Model) -> ServedModel | None:
        try:
            bundle = open_bundle(Path(entry.directory))
            self._metrics.add(bundle)
            return await asyncio.to_thread(ServedModel, bundle, self._settings, self._metrics)
        except BundleError as error:
            log.error("%s", error)
            return None

    async def _leave(self, number: int, model: ServedModel) -> None:
        if self.in_progress:
            await asyncio.wait(set(self.in_progress))
        await model.engine.detach()
        del self._leaving[number]
        del model
        give_back_memory()
        self._report()

    def _report(self) -> None:
        self.on_in_use(self._serial, sorted({*self._loads, *self._leaving}))

    def named(self, name: str) -> ServedModel:
        """Raises Problem `model_not_found`."""
        model = self.served.get(name)
        if model is None:
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
            raise Problem("model_not_found", f"no model of this service is for {task}.")
        if len(able) > 1:
            names = ", ".join(model.name for model in able)
            raise Problem("invalid_input", f"model is missing, and several are for {task}: {names}.")
        return able[0]

    def refusal(self, path: str) -> Problem | None:
        """`overloaded` where no model behind an endpoint has a place left, whichever of them a request is for."""
        able = [model for model in self.served.values() if ENDPOINTS[model.manifest.task] == path]
        if able and all(model.admission.full for model in able):
            return able[0].admission.overloaded()
        return None

    @property
    def ready(self) -> bool:
        """Whether there are models, and every engine is ready."""
        return bool(self.served) and all(model.ready for model in self.served.values())

    async def stop(self) -> None:
        """Leaves every engine."""
        await asyncio.gather(*(model.engine.detach() for model in self.served.values()))
        for task in self._leaving.values():
            task.cancel()
