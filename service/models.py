"""The models of an API process: each a bundle with its tokenizer, its admission and the link to its engine."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from opentelemetry import trace

from model_build.bundle import Bundle, BundleError, Task, open_bundle
from service.admission import Admission, Place
from service.control import Model, Table
from service.engine.client import EngineFailed, EngineLink
from service.engine.messages import Answer, Item, Output
from service.metrics import Metrics
from service.problems import Problem
from service.schemas import Envelope, TextInput
from service.settings import Settings
from service.tokenization import MASK, Encoding, tokenizer_named

log = logging.getLogger(__name__)


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

    async def encode(self, inputs: Sequence[TextInput], request: Envelope) -> list[Encoding]:
        """Encodes every input; raises Problem `invalid_input` naming the first that cannot be served."""
        limit = self.manifest.max_length
        encodings = []
        for index, each in enumerate(inputs):
            if index:
                await asyncio.sleep(0)  # short texts are encoded in one step each, and there may be hundreds
            encoding = await self.tokenizer.encode(each.text, each.text_pair, limit)
            if encoding.truncated and request.truncation == "error":
                raise Problem(
                    "invalid_input",
                    f"inputs[{index}] has {encoding.full_length} tokens, but {self.name} takes at most {limit}; "
                    'shorten it, or send "truncation": "truncate".',
                )
            if self.manifest.task == "fill-mask":
                self._check_masks(index, each, encoding)
            encodings.append(encoding)
        return encodings

    def _check_masks(self, index: int, given: TextInput, encoding: Encoding) -> None:
        written = given.text.count(MASK) + (given.text_pair or "").count(MASK)
        # Where the tokenizer saw another number of masks than stand there, none of them could be put back in place.
        if not written or encoding.masks != written:
            raise Problem("invalid_input", f"inputs[{index}] has no mask token; put {MASK} where a token is wanted.")
        if len(encoding.mask_positions) < encoding.masks:
            raise Problem("invalid_input", f"inputs[{index}] loses a mask to truncation; shorten the text before it.")
        if encoding.masks > self._settings.max_masks:
            raise Problem(
                "invalid_input",
                f"inputs[{index}] has {encoding.masks} masks, but at most {self._settings.max_masks} are allowed.",
            )

    async def run(
        self, request: Envelope, timings: Timings, targets: Sequence[int] = ()
    ) -> tuple[list[Encoding], list[Output]]:
        """Tokenises, queues, and awaits the engine; raises Problem for everything that may go wrong on the way."""
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
            work = self._work(request, timings, targets, time.monotonic() + seconds, place)
            try:
                encodings, answer = await asyncio.wait_for(work, seconds)
            except asyncio.TimeoutError:
                raise Problem("deadline_exceeded", "the request's time ran out before it was answered.") from None
            except EngineFailed as error:
                raise Problem(error.code, str(error), retry_after=self.admission.retry_after()) from error
        timings.queue, timings.inference = answer.queue_seconds, answer.inference_seconds
        spans(timings)
        self._metrics.tokenize.labels(self.name).observe(timings.tokenize)
        self._metrics.queue.labels(self.name).observe(timings.queue)
        self._metrics.truncated.labels(self.name).inc(sum(encoding.truncated for encoding in encodings))
        return encodings, answer.outputs

    async def _work(
        self, request: Envelope, timings: Timings, targets: Sequence[int], deadline: float, place: Place
    ) -> tuple[list[Encoding], Answer]:
        begun = time.perf_counter()
        encodings = await self.encode(request.inputs, request)
        timings.tokenize = time.perf_counter() - begun
        fill_mask = self.manifest.task == "fill-mask"
        items = [
            Item(each.input_ids, each.token_type_ids, each.mask_positions if fill_mask else [], list(targets))
            for each in encodings
        ]
        place.hold(sum(len(item.input_ids) for item in items))
        return encodings, await self.engine.infer(items, deadline, request.priority)


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
        self.in_progress: set[asyncio.Future[None]] = set()
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

    @property
    def ready(self) -> bool:
        """Whether there are models, and every engine is ready."""
        return bool(self.served) and all(model.ready for model in self.served.values())

    async def stop(self) -> None:
        """Leaves every engine."""
        await asyncio.gather(*(model.engine.detach() for model in self.served.values()))
        for task in self._leaving.values():
            task.cancel()
