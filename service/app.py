"""The application of one API process: routes, middleware, and the models it is told of."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from model_build.bundle import Bundle
from service import admin, classify, fill_mask, front_page, open_inference, problems, status
from service.access import Access
from service.body import RequestBody
from service.direct import Direct, Read, Work
from service.logs import log_unhandled
from service.metrics import Metrics
from service.models import Models
from service.plain import plain_classify, plain_fill_mask
from service.refusal import Refusal
from service.settings import Settings
from service.tracing import Journal, Tracing

DIRECT: dict[str, tuple[Read, Work]] = {
    "/classify": (plain_classify, classify.classify_body),
    "/fill-mask": (plain_fill_mask, fill_mask.fill_mask_body),
}


def create_app(
    settings: Settings,
    bundles: Sequence[Bundle] = (),
    digests: Sequence[str] = (),
    background: Callable[[FastAPI], Coroutine[Any, Any, None]] | None = None,
) -> FastAPI:
    """The service. It answers at once, and is ready when its models are.

    `bundles` are models known from the start; raises BundleError for an unusable vocabulary. `digests` are SHA-256 of
    the API keys. `background` runs for as long as the application does: it tells `app.state.models` what is served.
    """
    metrics = Metrics(bundles)
    journal = Journal(metrics, settings.log_requests)
    models = Models(bundles, settings, metrics)
    good = list(digests)

    def admit(changed: Sequence[str]) -> None:
        good[:] = changed

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        asyncio.get_running_loop().set_exception_handler(log_unhandled)
        running = asyncio.create_task(background(app)) if background else None
        try:
            yield
        finally:
            if running:
                running.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await running
            await models.stop()

    app = FastAPI(
        title="ernie-zh",
        summary="ERNIE over HTTP: classification and masked tokens of Chinese text.",
        version=importlib.metadata.version("ernie-zh"),
        lifespan=lifespan,
        redirect_slashes=False,  # to an address that a proxy in front may not have
        # Spans only, and only of the requests that do work; its logs would hold what was sent.
        telemetry={
            "tracing": settings.otel,
            "auto_configure": settings.otel,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "exclude": lambda scope: scope["path"].startswith(("/health/", "/v2/health/", "/metrics")),
        },
    )
    app.state.metrics = metrics
    app.state.models = models
    app.state.admit = admit
    app.state.control = None
    app.state.draining = False
    # With spans every request is to have one, and those are made by FastAPI.
    app.state.refusal = None if settings.otel else Refusal(models.refusal, good, journal)
    app.state.direct = None if settings.otel else Direct(models, DIRECT, good, journal, settings.max_body_bytes)
    problems.install(app)
    optional = [*([front_page] if settings.page else []), *([admin] if settings.admin else [])]
    for room in (classify, fill_mask, open_inference, status, *optional):
        app.include_router(room.router)
    app.add_middleware(
        RequestBody,
        max_bytes=settings.max_body_bytes,
        max_reading_bytes=settings.max_reading_bytes,
        seconds=settings.body_seconds,
        refusal=models.refusal,
    )
    app.add_middleware(Access, digests=good)
    if origins := [origin.strip() for origin in settings.cors_origins.split(",") if origin.strip()]:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Request-ID"],
            expose_headers=["X-Request-ID", "Server-Timing", "Retry-After"],
        )
    app.add_middleware(Tracing, journal=journal)
    return app
