"""The models of one API process as the parent's tables name them, with engines that are sockets of this process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from model_build.bundle import Task
from service.api.app import create_app
from service.api.models.catalog import Catalog
from service.messages.control import ModelEntry, ModelTable
from service.messages.frames import FrameReader, frame
from service.messages.inference import Infer, Inferred, Output, Ready, ToEngine
from service.settings import Settings
from tests.service.stand_in import application, client_of, write_bundle


class Engine:
    """Listens like an engine process, says Ready once `warm` is set, and answers while `hold` is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.warm = asyncio.Event()
        self.hold = asyncio.Event()
        self.asked = asyncio.Event()
        self.hold.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.warm.wait()
        writer.write(frame(Ready(3, "socket", 0.0)))
        frames = FrameReader(ToEngine)
        while data := await reader.read(1 << 16):
            for message in frames.feed(data):
                if isinstance(message, Infer):
                    self.asked.set()
                    await self.hold.wait()
                    writer.write(frame(Inferred(message.id, [Output(scores=[0.2, 0.1, 0.7])], 0.0, 0.0)))
        writer.close()


@contextlib.asynccontextmanager
async def engine(path: Path, warm: bool = True) -> AsyncIterator[Engine]:
    made = Engine(path)
    if warm:
        made.warm.set()
    server = await asyncio.start_unix_server(made.serve, str(path))
    try:
        yield made
    finally:
        server.close()


class Worker:
    """An application that is told tables, and what it tells of the loads it uses."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.app: FastAPI = create_app(Settings())
        self.models: Catalog = self.app.state.catalog
        self.models.on_change = self._note
        self.in_use: list[int] = []
        self._serial = 0
        self._changed = asyncio.Event()

    def _note(self, serial: int, in_use: list[int], ready: dict[str, int]) -> None:
        self.in_use = in_use
        self._changed.set()

    def entry(
        self, number: int, name: str, task: Task, served_by: Engine | None, responsive: bool = True, version: str = ""
    ) -> ModelEntry:
        directory = self.directory / version / name / "1"
        if not directory.exists():
            write_bundle(self.directory / version, task, name)
        return ModelEntry(number, name, str(directory), str(served_by.path) if served_by else None, responsive)

    async def told(self, *entries: ModelEntry) -> None:
        self._serial += 1
        await asyncio.wait_for(self.models.apply(ModelTable(self._serial, list(entries))), 10)

    async def until(self, true: Callable[[], bool]) -> None:
        """Waits for a report after which something is true."""

        async def wait() -> None:
            while not true():
                self._changed.clear()
                await self._changed.wait()

        await asyncio.wait_for(wait(), 10)


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Worker]:
    made = Worker(tmp_path)
    yield made
    await made.models.stop()


async def asked(app: FastAPI, path: str = "/classify") -> tuple[int, str]:
    async with client_of(app) as client:
        answer = await client.post(path, json={"inputs": "今天" if path == "/classify" else "[MASK]"})
    return answer.status_code, answer.json().get("code", "ok")


async def ready(app: FastAPI) -> httpx.Response:
    async with client_of(app) as client:
        return await client.get("/health/ready")


async def test_before_the_first_table_a_model_is_late_and_not_unknown(worker: Worker) -> None:
    async with client_of(worker.app) as client:
        for sent in ({"inputs": "今天"}, {"inputs": "今天", "model": "reviews"}):
            assert (await client.post("/classify", json=sent)).json()["code"] == "not_ready"
        await worker.told()
        for sent in ({"inputs": "今天"}, {"inputs": "今天", "model": "reviews"}):
            assert (await client.post("/classify", json=sent)).json()["code"] == "model_not_found"


async def test_an_application_starts_when_it_is_connected_to_the_engines_that_run(tmp_path: Path) -> None:
    async with engine(tmp_path / "engine", warm=False) as served_by:
        worker = Worker(tmp_path)

        async def background(app: FastAPI) -> None:
            await app.state.catalog.apply(ModelTable(1, [worker.entry(1, "reviews", "classify", served_by)]))

        app = create_app(Settings(), background=background)
        context = app.router.lifespan_context(app)
        started = asyncio.create_task(context.__aenter__())
        while not app.state.catalog.served:
            await asyncio.sleep(0)
        assert not started.done()
        served_by.warm.set()
        await asyncio.wait_for(started, 10)
        assert (await asked(app)) == (200, "ok")
        await context.__aexit__(None, None, None)


async def test_an_engine_that_hangs_holds_up_its_own_model_alone(worker: Worker, tmp_path: Path) -> None:
    async with engine(tmp_path / "a") as good, engine(tmp_path / "b", warm=False) as hung:
        # The one that hangs comes first in the table.
        await worker.told(
            worker.entry(1, "characters", "fill-mask", hung), worker.entry(2, "reviews", "classify", good)
        )
        await worker.until(lambda: worker.models.served["reviews"].ready)
        assert await asked(worker.app) == (200, "ok")
        assert await asked(worker.app, "/fill-mask") == (503, "not_ready")
        assert "characters" in (await ready(worker.app)).json()["detail"]
        hung.warm.set()
        await worker.until(lambda: worker.models.served["characters"].ready)
        assert (await ready(worker.app)).status_code == 200


async def test_a_model_that_cannot_be_loaded_here_makes_the_service_not_ready(worker: Worker, tmp_path: Path) -> None:
    async with engine(tmp_path / "a") as good:
        reviews = worker.entry(1, "reviews", "classify", good)
        characters = worker.entry(2, "characters", "fill-mask", good)
        aside = Path(characters.directory).rename(tmp_path / "aside")
        await worker.told(reviews, characters)
        await worker.until(lambda: worker.models.served["reviews"].ready)
        refusal = await ready(worker.app)
        assert (refusal.status_code, refusal.json()["code"]) == (503, "not_ready")
        assert refusal.json()["detail"] == "characters cannot be loaded; the log says why."
        assert await asked(worker.app) == (200, "ok")
        assert await asked(worker.app, "/fill-mask") == (503, "not_ready")
        aside.rename(characters.directory)
        await worker.told(reviews, characters)
        await worker.until(lambda: worker.models.unready is None)


async def test_an_engine_that_has_not_answered_lately_makes_the_service_not_ready(
    worker: Worker, tmp_path: Path
) -> None:
    async with engine(tmp_path / "a") as silent:
        for responsive, status in ((True, 200), (False, 503), (True, 200)):
            await worker.told(worker.entry(1, "reviews", "classify", silent, responsive))
            await worker.until(lambda: worker.models.served["reviews"].engine.ready is not None)
            assert (await ready(worker.app)).status_code == status


async def test_the_version_before_serves_until_the_engine_of_the_next_is_reached(
    worker: Worker, tmp_path: Path
) -> None:
    async with engine(tmp_path / "a") as old, engine(tmp_path / "b", warm=False) as new:
        first, second = (
            worker.entry(1, "reviews", "classify", old),
            worker.entry(2, "reviews", "classify", new, version="2"),
        )
        await worker.told(first)
        await worker.until(lambda: worker.models.served["reviews"].ready)
        before = worker.models.served["reviews"]
        await worker.told(second)
        assert worker.in_use == [1, 2], "the parent must keep the engine of the one that still serves"
        assert worker.models.served["reviews"] is before
        assert await asked(worker.app) == (200, "ok")
        new.warm.set()
        await worker.until(lambda: worker.in_use == [2])
        assert worker.models.served["reviews"] is not before
        assert await asked(worker.app) == (200, "ok")


async def test_a_model_is_kept_for_a_request_at_its_engine_and_not_for_an_answer_being_sent(
    worker: Worker, tmp_path: Path
) -> None:
    sending, read = asyncio.Event(), asyncio.Event()

    async def receive() -> dict[str, object]:
        if not body:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": body.pop(), "more_body": False}

    async def send(message: object) -> None:
        sending.set()
        await read.wait()  # a client that does not read what it is sent

    body = ['{"inputs": "今天"}'.encode()]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": "/classify",
        "raw_path": b"/classify", "root_path": "", "scheme": "http", "query_string": b"", "server": ("service", 80),
        "client": ("caller", 1), "headers": [(b"host", b"service"), (b"content-type", b"application/json")],
    }  # fmt: skip
    async with engine(tmp_path / "a") as one:
        await worker.told(worker.entry(1, "reviews", "classify", one))
        await worker.until(lambda: worker.models.served["reviews"].ready)
        one.hold.clear()
        request = asyncio.create_task(worker.app(scope, receive, send))
        await asyncio.wait_for(one.asked.wait(), 10)
        await worker.told()
        assert worker.in_use == [1], "its request is at the engine"
        one.hold.set()
        await worker.until(lambda: worker.in_use == [])
        await asyncio.wait_for(sending.wait(), 10)
        assert not request.done()
        read.set()
        await asyncio.wait_for(request, 10)


async def test_a_request_may_be_as_large_with_several_api_processes_as_with_one(tmp_path: Path) -> None:
    for workers in (1, 4):
        directory = tmp_path / str(workers)
        app, _ = application(directory, {"reviews": "classify"}, api_workers=workers, max_queue_tokens=100)
        async with client_of(app) as client:
            answers = [await client.post("/classify", json={"inputs": ["今" * 18] * count}) for count in (5, 6)]
        assert [answer.status_code for answer in answers] == [200, 413], "100 tokens, and 120"
