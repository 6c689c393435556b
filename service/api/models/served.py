"""One model of an API process: its bundle, tokenizer, admission and the link to its engine."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

import msgspec

from model_build.bundle import Bundle, Scores
from service.api.deadline import Deadline
from service.api.models.admission import Admission, Place
from service.api.models.engine_link import EngineFailed, EngineLink
from service.api.models.tokenization import Encoding, Specials, tokenizer_named
from service.api.models.windows import LEAST_ROOM, NoRoom, Windows
from service.api.request import Timings
from service.api.request_bodies import TextInput, TextRequest, WorkRequest
from service.messages.control import ModelEntry
from service.messages.frames import FrameError
from service.messages.inference import Item, Output
from service.metrics import Metrics, Observer
from service.problem import Problem
from service.settings import Settings

log = logging.getLogger(__name__)
T = TypeVar("T")

# Maximum number of scores in one message of the engine. Decoding a message with more would block the event loop.
SCORES_AT_ONCE = 100_000
# Bytes of {"label": …, "score": …} in JSON without the name of the label.
LABEL_BYTES = 44


class ServedModel:
    """One bundle that is served."""

    def __init__(self, bundle: Bundle, settings: Settings, metrics: Metrics) -> None:
        self.bundle = bundle
        self.manifest = bundle.manifest
        self.name = bundle.manifest.name
        self.tokenizer = tokenizer_named(settings.tokenizer, bundle.vocab_path, bundle.manifest.tokenizer)
        self.admission = Admission(settings.max_queue_requests, settings.max_queue_tokens, share=settings.api_workers)
        self.engine = EngineLink()
        self.responsive = True
        """Whether the supervisor has seen a recent forward pass of the engine."""
        self._label_bytes: list[int] = []
        self._socket: str | None = None
        self._attaching: asyncio.Task[None] | None = None
        self._users = 0
        self._unused = asyncio.Event()
        self._settings = settings
        self._metrics = metrics
        self._tokenize_seconds = Observer(metrics.tokenize.labels(self.name))
        self._queue_seconds = Observer(metrics.queue.labels(self.name))
        self._in_flight = metrics.in_flight.labels(self.name)
        self._unknown_tokens = metrics.unknown_tokens.labels(self.name)

    @property
    def ready(self) -> bool:
        """Whether the engine has warmed up and still runs."""
        return self.engine.ready is not None and self.responsive

    def follow(self, entry: ModelEntry, attached: Callable[[], None]) -> None:
        """Connects to the engine process of the table entry in the background; then calls `attached`.

        Connecting to an engine that hangs never finishes; the other models must be served meanwhile.
        """
        self.responsive = entry.responsive
        if entry.socket and entry.socket != self._socket:
            self._socket = entry.socket
            if self._attaching:
                self._attaching.cancel()
            self._attaching = asyncio.create_task(self._attach(entry.socket, attached))

    async def _attach(self, socket: str, attached: Callable[[], None]) -> None:
        try:
            await self.engine.attach(socket)
        except (OSError, EngineFailed, FrameError) as error:
            # The engine has already stopped; the next table has the new one.
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
        """Returns when no request needs the engine. A request whose answer is being sent does not need it."""
        if self._users:
            await self._unused.wait()

    def specials(self, asked: TextRequest) -> Specials:
        """Which special tokens in the texts of a request are read as such."""
        if asked.special_tokens:
            return "all"
        return "mask" if self.manifest.task == "fill-mask" else "none"

    def labels(self, count: int) -> list[str]:
        """Names of `count` classes; LABEL_0, LABEL_1 … if the bundle has none."""
        return self.manifest.labels or [f"LABEL_{index}" for index in range(count)]

    @property
    def scores(self) -> Scores:
        """What the scores of a classifier are: as the engine has found at its warm-up, before that as in the bundle."""
        return self.engine.ready.scores if self.engine.ready else self.manifest.scores

    @property
    def label_count(self) -> int:
        """Number of classes. If the bundle does not name them, it is 0 while the engine is not ready."""
        return len(self.manifest.labels) or (self.engine.ready.num_outputs if self.engine.ready else 0)

    def label_bytes(self, count: int) -> int:
        """Upper limit of the bytes of `count` labels with their scores in JSON."""
        if not self._label_bytes:
            names = [LABEL_BYTES + len(msgspec.json.encode(label)) for label in self.labels(self.label_count)]
            self._label_bytes = list(itertools.accumulate(sorted(names, reverse=True)))
        return self._label_bytes[min(count, len(self._label_bytes)) - 1] if self._label_bytes else 0

    async def answered(self, asked: WorkRequest, timings: Timings, work: Callable[[Session], Awaitable[T]]) -> T:
        """Runs `work` on a session with the engine and returns its result. Every failure is raised as a Problem."""
        limit = self._settings.max_inputs
        if len(asked.texts) > limit:
            raise Problem("too_large", f"the request has {len(asked.texts)} inputs, but at most {limit} are allowed.")
        if not self.engine.ready:
            raise Problem("not_ready", f"the engine of {self.name} is starting; try again soon.")
        seconds = (asked.timeout_ms or self._settings.request_timeout_ms) / 1000
        # Admission comes first, so that overload is answered before any work is done for the request.
        with self.admission.admit() as place:
            self._enter()
            session = Session(self, self._settings, asked, timings, time.monotonic() + seconds, place)
            try:
                with Deadline(seconds):
                    result = await work(session)
            except asyncio.TimeoutError:
                raise Problem("deadline_exceeded", "the request's time ran out before it was answered.") from None
            except EngineFailed as error:
                raise Problem(error.code, str(error), retry_after=self.admission.retry_after()) from error
            finally:
                self._leave()
        self._tokenize_seconds.observe(timings.tokenize)
        self._queue_seconds.observe(timings.queue)
        if session.truncated:
            self._metrics.truncated.labels(self.name).inc(len(session.truncated))
        if session.unknown:
            self._unknown_tokens.inc(sum(session.unknown.values()))
        return result


def check_tokens(name: str, given: TextInput, lengths: tuple[int, int]) -> None:
    """Raises Problem for a text without tokens; `lengths` are the numbers of tokens of the text and of its pair."""
    if not lengths[0]:
        empty = "text"
    elif given.text_pair is not None and not lengths[1]:
        empty = "text_pair"
    else:
        return
    raise Problem(
        "invalid_input",
        f"{name}.{empty} has no token, because it consists of characters that the tokenizer removes, such as control "
        "characters and U+200B; send visible text.",
    )


def _no_room(encoding: Encoding, limit: int, error: NoRoom) -> str:
    """What leaves no room for windows, and what to do."""
    length, field = encoding.text_lengths[error.field == "text_pair"], error.field
    split = "text" if field == "text_pair" else "text_pair"
    return (
        f"{field} has {length} tokens and leaves no room for {split}: in a window of {limit} tokens it would have "
        f'{error.room}, but it needs at least {LEAST_ROOM}; shorten {field}, or send "truncation": "truncate".'
    )


class Session:
    """One request for a model: tokenises its texts and sends them to the engine."""

    def __init__(
        self,
        model: ServedModel,
        settings: Settings,
        asked: WorkRequest,
        timings: Timings,
        deadline: float,
        place: Place,
    ) -> None:
        self.model = model
        self.settings = settings
        self.truncated: set[str] = set()
        """Names of the inputs that were cut; an input may be encoded in several variants."""
        self.unknown: dict[str, int] = {}
        """Number of unknown tokens by the name of the input, if there are any."""
        self._specials = model.specials(asked)
        self._asked = asked
        self._timings = timings
        self._deadline = deadline
        self._place = place

    async def encode(self, index: int, given: TextInput) -> tuple[Windows, bool]:
        """The windows of `inputs[index]`, and whether it was cut; raises Problem `invalid_input`."""
        if index:
            await asyncio.sleep(0)  # lets other requests run: there may be hundreds of short texts
        begun = time.perf_counter()
        try:
            return await self._encode(f"inputs[{index}]", given)
        finally:
            self._timings.tokenize += time.perf_counter() - begun

    async def _encode(self, name: str, given: TextInput) -> tuple[Windows, bool]:
        limit, model = self.model.manifest.max_length, self.model.name
        encoding = await self.model.tokenizer.encode(given.text, given.text_pair, limit, self._specials)
        check_tokens(name, given, encoding.text_lengths)
        if encoding.unknown:
            self.unknown[name] = encoding.unknown
        if not encoding.truncated:
            return Windows(encoding, limit), False
        if self._asked.truncation == "truncate":
            self.truncated.add(name)
            return Windows(encoding, limit), True
        if self._asked.truncation == "error":
            raise Problem(
                "invalid_input",
                f"{name} has {encoding.full_length} tokens, but {model} takes at most {limit}; "
                'shorten it, or send "truncation": "window" or "truncate".',
            )
        # Checked before the whole text is encoded: each window adds at least half of its length.
        most = self.settings.max_windows
        if encoding.full_length <= most * limit:
            whole = await self.model.tokenizer.encode(given.text, given.text_pair, encoding.full_length, self._specials)
            if whole.unknown:
                self.unknown[name] = whole.unknown
            try:
                windows = Windows(whole, limit)
            except NoRoom as error:
                raise Problem("invalid_input", f"{name}: {_no_room(encoding, limit, error)}") from None
            if len(windows.spans) <= most:
                return windows, False
            if given.text_pair is not None:
                lengths = " and ".join(map(str, encoding.text_lengths))
                raise Problem(
                    "invalid_input",
                    f"{name} is a pair of {lengths} tokens: a window of {limit} tokens has room for {windows.room} of "
                    f"{windows.split}, so it needs {len(windows.spans)} windows, but at most {most} are allowed; "
                    'shorten the texts, or send "truncation": "truncate".',
                )
        raise Problem(
            "invalid_input",
            f"{name} has {encoding.full_length} tokens, more than {most} windows of {limit} hold; "
            'split it, or send "truncation": "truncate".',
        )

    async def infer(self, items: Sequence[Item]) -> list[Output]:
        """The results of the items; raises Problem and EngineFailed.

        It is one request to the engine, or several in turn if the results have more than SCORES_AT_ONCE scores.
        """
        tokens = sum(len(item.input_ids) for item in items)
        outputs: list[Output] = []
        with self._place.holding(tokens):
            for part in self._parts(items) if len(items) > 1 else (items,):
                inferred = await self.model.engine.infer(part, self._deadline, self._asked.priority)
                self._timings.queue += inferred.queue_seconds
                self._timings.inference += inferred.inference_seconds
                outputs += inferred.outputs
        return outputs

    def _parts(self, items: Sequence[Item]) -> Iterator[Sequence[Item]]:
        """The items in their order, so that the results of a part have at most SCORES_AT_ONCE scores, or are one."""
        labels, candidates = self.model.label_count, 2 * (self.model.manifest.top_candidates or 0)
        start = scores = 0
        for index, item in enumerate(items):
            more = len(item.mask_positions) * (candidates + len(item.target_ids)) or labels
            scores += more
            if scores > SCORES_AT_ONCE and index > start:
                yield items[start:index]
                start, scores = index, more
        yield items[start:] if start else items
