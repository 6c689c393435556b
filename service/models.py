"""The models of this service: each a bundle with its tokenizer, its admission and its supervised engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from model_build.bundle import Bundle, Task
from service.admission import Admission
from service.engine.batching import BatchingOptions
from service.engine.client import EngineFailed
from service.engine.messages import Item, Output
from service.engine.supervisor import Supervisor
from service.metrics import Metrics
from service.problems import Problem
from service.runtime.base import RuntimeOptions
from service.schemas import Envelope, TextInput
from service.settings import Settings
from service.tokenization import MASK, Encoding, tokenizer_named


@dataclass
class Timings:
    """Seconds of one request, for Server-Timing."""

    tokenize: float = 0.0
    queue: float = 0.0
    inference: float = 0.0


class ServedModel:
    """One bundle behind HTTP."""

    def __init__(self, bundle: Bundle, settings: Settings, metrics: Metrics) -> None:
        self.bundle = bundle
        self.manifest = bundle.manifest
        self.name = bundle.manifest.name
        lower = bundle.manifest.tokenizer.do_lower_case
        self.tokenizer = tokenizer_named(settings.tokenizer, bundle.vocab_path, lower)
        self.admission = Admission(settings.max_queue_requests, settings.max_queue_tokens, time.monotonic)
        self._settings = settings
        self._metrics = metrics
        runtime = RuntimeOptions(
            backend=settings.backend,
            device=settings.device,
            device_id=settings.device_id,
            cpu_threads=settings.cpu_threads,
            fp16=settings.fp16,
            max_batch=settings.max_batch_items,
            max_length=self.manifest.max_length,
            cache_directory=str(settings.tensorrt_cache) if settings.tensorrt_cache else None,
        )
        batching = BatchingOptions(
            max_batch_tokens=settings.max_batch_tokens,
            max_batch_items=settings.max_batch_items,
            max_wait=settings.max_wait_ms / 1000,
        )
        self.engine = Supervisor(bundle, runtime, batching, settings.hang_seconds)
        self.engine.on_batch = lambda batch: metrics.batch_done(self.name, batch)
        self.engine.on_restart = metrics.restarts.labels(self.name).inc
        self.engine.on_ready = metrics.ready.labels(self.name).set

    @property
    def labels(self) -> list[str]:
        """Names of the classes; LABEL_0, LABEL_1 … where the bundle has none."""
        ready = self.engine.ready
        return self.manifest.labels or [f"LABEL_{index}" for index in range(ready.num_outputs if ready else 0)]

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
        deadline = time.monotonic() + (request.timeout_ms or self._settings.request_timeout_ms) / 1000
        begun = time.perf_counter()
        encodings = await self.encode(request.inputs, request)
        timings.tokenize = time.perf_counter() - begun
        items = [
            Item(each.input_ids, each.token_type_ids, each.mask_positions if self.manifest.task == "fill-mask" else [],
                 list(targets))
            for each in encodings
        ]  # fmt: skip
        with self.admission.admit(sum(len(item.input_ids) for item in items)):
            try:
                answer = await asyncio.wait_for(self.engine.infer(items, deadline), deadline - time.monotonic())
            except asyncio.TimeoutError:
                raise Problem("deadline_exceeded", "the request's time ran out before it was answered.") from None
            except EngineFailed as error:
                raise Problem(error.code, str(error), retry_after=self.admission.retry_after()) from error
        timings.queue, timings.inference = answer.queue_seconds, answer.inference_seconds
        self._metrics.tokenize.labels(self.name).observe(timings.tokenize)
        self._metrics.queue.labels(self.name).observe(timings.queue)
        self._metrics.truncated.labels(self.name).inc(sum(encoding.truncated for encoding in encodings))
        return encodings, answer.outputs


class Models:
    """Every model of the service by name."""

    def __init__(self, served: Sequence[ServedModel]) -> None:
        self.served = {model.name: model for model in served}

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
        """Whether every engine has warmed up."""
        return all(model.engine.ready for model in self.served.values())

    async def start(self) -> None:
        """Starts every engine; raises EngineStartFailed of the first that fails."""
        await asyncio.gather(*(model.engine.start() for model in self.served.values()))

    async def stop(self, seconds: float) -> None:
        """Ends every engine."""
        await asyncio.gather(*(model.engine.stop(seconds) for model in self.served.values()))
