"""Clients of all kinds. Each sends requests over one connection, records them in the ledger, and starts again."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

from benchmarks.serving.chaos.ledger import Entry, Ledger
from benchmarks.serving.chaos.questions_of import Questions
from benchmarks.serving.chaos.raw_connection import RawConnection
from benchmarks.serving.connection import JSON
from benchmarks.serving.questions import Question
from service.metrics import Metrics

ANSWER_SECONDS = 60.0
"""A request without an answer for this long is lost. Longer than the service's own limit for a request."""
NO_ANSWER = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.TimeoutError)
MANY_PIECES = 8


@dataclasses.dataclass(frozen=True)
class Target:
    """The service as its clients know it."""

    url: str
    key: str
    max_body_bytes: int
    body_seconds: float


class Client:
    """One client after the other, each of a random kind."""

    def __init__(
        self, target: Target, questions: Questions, ledger: Ledger, rng: random.Random, serial: itertools.count[int]
    ) -> None:
        self._target = target
        self._questions = questions
        self._ledger = ledger
        self._rng = rng
        self._serial = serial
        self._kinds: dict[Callable[[], Awaitable[None]], int] = {
            self.keep_alive: 8, self.pipelining: 4, self.leaving: 3, self.slow_sender: 2, self.too_slow_sender: 1,
            self.slow_reader: 2, self.oversized: 1, self.without_key: 2, self.chunked: 3, self.visitor: 3,
            self.mistaken: 2,
        }  # fmt: skip

    async def run(self, ended: asyncio.Event, pause: float) -> None:
        """Until the event; `pause` is the mean time between two clients, in seconds."""
        while not ended.is_set():
            (kind,) = self._rng.choices(list(self._kinds), list(self._kinds.values()))
            try:
                await kind()
            except OSError:
                # No connection: nothing was sent. A new connection must always be possible, so this is rare.
                self._ledger.outcomes[kind.__name__, "no connection"] += 1
                self._ledger.wrong.append(f"a client ({kind.__name__}) could not connect")
                await asyncio.sleep(0.2)
            await asyncio.sleep(self._rng.expovariate(1 / pause))

    # What clients have in common

    def _entry(self, connection: RawConnection, client: str, question: Question) -> Entry:
        return self._ledger.send(
            Entry(
                f"chaos-{next(self._serial)}", client, question, connection.port, connection.opened, time.monotonic(),
                Metrics.endpoint(question.path),
            )
        )  # fmt: skip

    def _head(self, entry: Entry, *lines: str, last: bool = False, key: str | None = "") -> bytes:
        """The head of a request without the length of its body; `last`: the connection closes after the answer."""
        question = entry.question
        parts = [
            f"{question.method} {question.path} HTTP/1.1", f"Host: {urlsplit(self._target.url).netloc}",
            f"X-Request-ID: {entry.id}", f"Content-Type: {JSON}", *lines,
        ]  # fmt: skip
        if key is not None:
            parts.append(f"Authorization: Bearer {key or self._target.key}")
        if last:
            parts.append("Connection: close")
        return "\r\n".join([*parts, "", ""]).encode()

    def _request(self, entry: Entry, last: bool = False, key: str | None = "") -> bytes:
        """Head and body."""
        length = [f"Content-Length: {len(entry.question.body)}"] if entry.question.method == "POST" else []
        return self._head(entry, *length, last=last, key=key) + entry.question.body

    async def _read(
        self, connection: RawConnection, entries: Sequence[Entry], chunk: int = 0, pause: float = 0.0
    ) -> None:
        """Reads the answers to requests that were sent on a connection, and what follows the last one."""
        waiting = list(entries)
        try:
            while waiting:
                answer = await asyncio.wait_for(connection.answer(chunk, pause), ANSWER_SECONDS)
                self._ledger.answer(waiting.pop(0), answer)
                if connection.closing:
                    break
            if connection.closing and (rest := await asyncio.wait_for(connection.rest(), ANSWER_SECONDS)):
                self._ledger.surplus(entries[-1], rest)
        except NO_ANSWER as error:
            for entry in waiting:
                self._ledger.lose(entry, f"{type(error).__name__} {error}".strip())
            waiting.clear()
        for entry in waiting:
            self._ledger.lose(entry, "the service closed the connection after an earlier answer")

    async def _converse(self, client: str, exchanges: Sequence[Question], key: str | None = "") -> None:
        """One request after the other on one connection; the last one closes it."""
        connection = await RawConnection.open(self._target.url)
        try:
            for number, question in enumerate(exchanges, 1):
                entry = self._entry(connection, client, question)
                await self._deliver(connection, [entry], self._request(entry, number == len(exchanges), key))
                if connection.closing or entry.id not in self._ledger.ended:
                    return
                await asyncio.sleep(self._rng.uniform(0, 0.1))
        finally:
            connection.close()

    async def _deliver(
        self, connection: RawConnection, entries: Sequence[Entry], data: bytes, pieces: int = 1, pause: float = 0.0
    ) -> None:
        """Sends a request and reads its answer. A service that refuses a body may answer before all of it is sent."""
        sending = asyncio.create_task(connection.send(data, pieces, pause))
        try:
            await self._read(connection, entries)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    def _some(self, most: int) -> list[Question]:
        return self._rng.choices(self._questions.usual, k=self._rng.randint(1, most))

    # The kinds

    async def keep_alive(self) -> None:
        """One to ten requests, one after the other."""
        await self._converse("plain", self._some(10))

    async def visitor(self) -> None:
        """Health, models, metrics."""
        await self._converse("GET", self._rng.sample(self._questions.visits, 3))

    async def mistaken(self) -> None:
        """Requests with an error."""
        await self._converse("mistaken", self._rng.sample(self._questions.refused, 2))

    async def without_key(self) -> None:
        """No key, or a wrong one."""
        asked = [dataclasses.replace(each, status=401) for each in self._some(2)]
        await self._converse("no key or a wrong one", asked, self._rng.choice([None, "wrong"]))

    async def pipelining(self) -> None:
        """Several requests in one piece."""
        connection = await RawConnection.open(self._target.url)
        try:
            entries = [self._entry(connection, "pipelining", each) for each in self._some(8)]
            data = b"".join(self._request(entry, entry is entries[-1]) for entry in entries)
            await self._deliver(connection, entries, data)
        finally:
            connection.close()

    async def leaving(self) -> None:
        """Closes the connection before the answer: with requests sent ahead, or in the middle of one."""
        connection = await RawConnection.open(self._target.url)
        entries = [self._entry(connection, "leaving", each) for each in self._some(4)]
        data = b"".join(map(self._request, entries))
        if self._rng.random() < 0.3:
            data = data[: -self._rng.randrange(1, 40)]
        try:
            await connection.send(data)
            await asyncio.sleep(self._rng.choice([0.0, self._rng.uniform(0, 0.05)]))
        except OSError:
            pass  # its process was killed, and the client wanted to leave
        finally:
            connection.close(abruptly=self._rng.random() < 0.5)
            for entry in entries:
                self._ledger.leave(entry)

    async def slow_sender(self) -> None:
        """Head and body in pieces, within the limits of time."""
        connection = await RawConnection.open(self._target.url)
        try:
            entry = self._entry(connection, "slow to send", self._rng.choice(self._questions.usual))
            pause = 0.4 * self._target.body_seconds / MANY_PIECES
            await self._deliver(connection, [entry], self._request(entry, last=True), MANY_PIECES, pause)
        finally:
            connection.close()

    async def too_slow_sender(self) -> None:
        """Half a body: the answer is 408."""
        connection = await RawConnection.open(self._target.url)
        try:
            asked = dataclasses.replace(self._rng.choice(self._questions.usual), status=408)
            entry = self._entry(connection, "too slow to send", asked)
            await self._deliver(connection, [entry], self._request(entry)[: -len(asked.body) // 2])
        finally:
            connection.close()

    async def slow_reader(self) -> None:
        """A large answer, read in small pieces."""
        connection = await RawConnection.open(self._target.url, receive_buffer=4096, limit=8192)
        try:
            entry = self._entry(connection, "slow to read", self._rng.choice(self._questions.large))
            await connection.send(self._request(entry, last=True))
            await self._read(connection, [entry], chunk=8192, pause=0.1)
        except OSError as error:
            self._ledger.lose(entry, f"{type(error).__name__} {error}".strip())
        finally:
            connection.close()

    async def oversized(self) -> None:
        """A body that is too large, with its length in the head or in chunks: the answer is 413."""
        connection = await RawConnection.open(self._target.url)
        question = dataclasses.replace(self._rng.choice(self._questions.usual), status=413)
        try:
            entry = self._entry(connection, "oversized body", question)
            filling = b" " * (self._target.max_body_bytes + 1)
            if self._rng.random() < 0.5:
                data = self._head(entry, f"Content-Length: {len(filling)}") + filling
            else:
                data = self._head(entry, "Transfer-Encoding: chunked") + in_chunks(filling, 16384)
            await self._deliver(connection, [entry], data)
        finally:
            connection.close()

    async def chunked(self) -> None:
        """A body in chunks."""
        connection = await RawConnection.open(self._target.url)
        try:
            entry = self._entry(connection, "chunked", self._rng.choice(self._questions.usual))
            head = self._head(entry, "Transfer-Encoding: chunked", last=True)
            data = head + in_chunks(entry.question.body, self._rng.randint(1, 200))
            await self._deliver(connection, [entry], data, self._rng.randint(1, 3), 0.02)
        finally:
            connection.close()


def in_chunks(data: bytes, size: int) -> bytes:
    """The data in the transfer encoding `chunked`."""
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
