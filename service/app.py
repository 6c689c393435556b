"""The application: routes, middleware, and engines that start and stop with it."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import logging
from collections.abc import AsyncIterator, Callable, Sequence

from fastapi import FastAPI

from model_build.bundle import Bundle
from service import classify, fill_mask, front_page, open_inference, problems, status
from service.body import RequestBody
from service.engine.supervisor import EngineStartFailed
from service.metrics import Metrics
from service.models import Models, ServedModel
from service.settings import Settings
from service.tracing import Tracing

log = logging.getLogger(__name__)


def create_app(
    bundles: Sequence[Bundle],
    settings: Settings,
    on_start_failed: Callable[[EngineStartFailed], None] = lambda error: None,
) -> FastAPI:
    """The service for `bundles`. HTTP answers at once; engines warm up meanwhile.

    `on_start_failed` is told when an engine cannot be started at all. Raises BundleError for an unusable vocabulary.
    """
    metrics = Metrics(bundles)
    models = Models([ServedModel(bundle, settings, metrics) for bundle in bundles])

    async def start() -> None:
        try:
            await models.start()
        except EngineStartFailed as error:
            on_start_failed(error)
            return
        for model in models.served.values():
            log.info("%s is ready: %s", model.name, model.engine.ready)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        starting = asyncio.create_task(start())
        try:
            yield
        finally:
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
            await models.stop(settings.shutdown_seconds)

    app = FastAPI(
        title="ernie-zh",
        summary="ERNIE over HTTP: classification and masked tokens of Chinese text.",
        version=importlib.metadata.version("ernie-zh"),
        lifespan=lifespan,
    )
    app.state.metrics = metrics
    app.state.models = models
    app.state.draining = False
    problems.install(app)
    for room in (classify, fill_mask, open_inference, status, *([front_page] if settings.page else [])):
        app.include_router(room.router)
    app.add_middleware(RequestBody, max_bytes=settings.max_body_bytes)
    app.add_middleware(Tracing, metrics=metrics)
    return app
