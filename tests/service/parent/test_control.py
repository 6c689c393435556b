"""What the parent and an API process tell each other, over a real Unix socket in one process."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import uvicorn

from service.api.app import create_app
from service.api.parent_link import ParentLink
from service.api.worker import Server, Worker
from service.messages.control import ModelTable, Reloaded, ToWorker
from service.messages.frames import FrameReader
from service.parent.control import Control
from service.settings import Settings


@contextlib.asynccontextmanager
async def connected(
    directory: Path, on_reload: Callable[[], Awaitable[Reloaded]]
) -> AsyncIterator[tuple[Control, ParentLink]]:
    """Both ends of a connection."""
    control = Control({}, [], on_reload)
    async with control.listening(directory / "control"):
        reader, writer = await asyncio.open_unix_connection(str(directory / "control"))
        yield control, ParentLink(reader, writer, FrameReader(ToWorker))
        writer.close()


@contextlib.asynccontextmanager
async def listening(worker: ParentLink) -> AsyncIterator[list[list[str]]]:
    """Collects the keys that the worker is told of."""
    keys: list[list[str]] = []

    async def on_table(table: ModelTable) -> None:
        pass

    task = asyncio.create_task(worker.listen(keys.append, on_table, lambda readiness: None, lambda seconds: None))
    yield keys
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_a_client_that_leaves_during_a_reload_does_not_cut_the_worker_off(tmp_path: Path) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def reload() -> Reloaded:
        begun.set()
        await go_on.wait()
        return Reloaded(loaded=["reviews"])

    async with connected(tmp_path, reload) as (control, worker), listening(worker) as keys:
        left = asyncio.create_task(worker.reload())
        await begun.wait()
        left.cancel()
        go_on.set()
        assert (await asyncio.wait_for(worker.reload(), 10)).loaded == ["reviews"]
        control.replace_keys(["digest"])
        await asyncio.wait_for(worker.reload(), 10)  # comes behind the keys
        assert keys == [["digest"]]


async def test_a_reload_that_fails_is_answered(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def reload() -> Reloaded:
        raise RuntimeError("the disk is on fire")

    async with connected(tmp_path, reload) as (_, worker), listening(worker):
        for _ in range(2):
            answer = await asyncio.wait_for(worker.reload(), 10)
            assert answer.refused == {"reload": "the reload failed and stopped there; the log names the reason."}
    assert "the disk is on fire" in caplog.text


async def test_a_worker_that_cannot_do_what_the_parent_says_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def reload() -> Reloaded:
        return Reloaded()

    async def apply(table: ModelTable) -> None:
        raise RuntimeError("nobody has thought of this")

    app = create_app(Settings())
    monkeypatch.setattr(app.state.catalog, "apply", apply)
    server = Server(uvicorn.Config(app))
    async with connected(tmp_path, reload) as (_, worker):
        with caplog.at_level(logging.ERROR):
            await asyncio.wait_for(Worker(app, server).follow(worker), 10)
    assert server.should_exit
    assert not server.force_exit, "requests in progress may end"
    assert "nobody has thought of this" in caplog.text
