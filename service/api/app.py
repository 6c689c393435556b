"""Creates the application of one API process from its endpoints, routes and models."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from model_build.bundle import Bundle
from service.api import openapi, page, status
from service.api.admin import ReloadModels
from service.api.arrival import Arrivals
from service.api.asgi_adapter import AsgiAdapter
from service.api.exchange import Endpoint, Exchange
from service.api.gate import Gate
from service.api.keys import Keys
from service.api.models.catalog import Catalog
from service.api.other_requests import OtherRequests, problem_response
from service.api.tasks.classify import Classify
from service.api.tasks.fill_mask.endpoint import FillMask
from service.api.tasks.open_inference import metadata
from service.api.tasks.open_inference.infer import Infer, InferVersion
from service.api.tasks.tokenize import Tokenize
from service.api.telemetry import Telemetry
from service.logs import log_unhandled
from service.messages.control import Readiness
from service.metrics import Metrics
from service.problem import Problem
from service.settings import Settings

# An engine that hangs must not prevent that the other models are served.
JOIN_SECONDS = 2.0


def create_app(
    settings: Settings,
    bundles: Sequence[Bundle] = (),
    digests: Sequence[str] = (),
    background: Callable[[FastAPI], Coroutine[Any, Any, None]] | None = None,
) -> FastAPI:
    """The application. It answers requests immediately, and is ready when its models are.

    `bundles` are models that are known at the start; raises BundleError for an unusable vocabulary. `digests` are
    SHA-256 of the API keys. `background` runs as long as the application and updates `app.state.catalog`.
    """
    metrics = Metrics(bundles)
    catalog = Catalog(bundles, settings, metrics)
    keys = Keys(digests)
    cors = _cors(settings)
    telemetry = Telemetry(metrics, settings.log_requests, cors)
    gate = Gate(keys, catalog, settings.max_body_bytes)
    arrivals = Arrivals(settings.max_body_bytes, settings.max_reading_bytes, settings.body_seconds)
    endpoints: list[Endpoint] = [Classify(catalog), FillMask(catalog), Tokenize(catalog, settings.max_inputs)]
    endpoints += [Infer(catalog), InferVersion(catalog)]
    if settings.admin:
        endpoints.append(ReloadModels(lambda: app.state.parent))
    exchange = Exchange(endpoints, gate, arrivals, telemetry, settings.otel)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        asyncio.get_running_loop().set_exception_handler(log_unhandled)
        running = [asyncio.create_task(metrics.keep_files())]
        if background:
            running.append(asyncio.create_task(background(app)))
        try:
            if background:
                # A process that replaces another one must not refuse requests that the others would answer.
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(catalog.joined(), JOIN_SECONDS)
            yield
        finally:
            for task in running:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            await catalog.stop()

    app = FastAPI(
        title="ernie-zh",
        summary="ERNIE over HTTP: classification and masked tokens of Chinese text.",
        version=importlib.metadata.version("ernie-zh"),
        lifespan=lifespan,
        redirect_slashes=False,  # a redirect would name an address that a proxy may not have
        # Spans only: FastAPI's logs would contain texts. The exchange creates the spans of its own requests.
        telemetry={
            "tracing": settings.otel,
            "auto_configure": settings.otel,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "exclude": lambda scope: (
                scope["path"].startswith(("/health/", "/v2/health/", "/metrics"))
                or exchange.route(scope["method"], scope["path"]) is not None
            ),
        },
    )
    app.state.metrics, app.state.catalog, app.state.keys = metrics, catalog, keys
    app.state.exchange, app.state.endpoint = exchange, AsgiAdapter(exchange)
    app.state.parent, app.state.draining, app.state.readiness = None, False, Readiness()
    app.include_router(openapi.work_routes(endpoints))
    app.include_router(metadata.router)
    app.include_router(status.router, responses=openapi.RESPONSES)
    if settings.page:
        app.include_router(page.router)
    openapi.install(app)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_middleware(OtherRequests, exchange=exchange, gate=gate, telemetry=telemetry, cors=cors)
    return app


def _cors(settings: Settings) -> CORSMiddleware | None:
    """Which other sites may read the answers. The telemetry reads these settings; it does not run as middleware."""
    origins = [origin.strip() for origin in settings.cors_origins.split(",") if origin.strip()]
    if not origins:
        return None

    async def nothing(*_: object) -> None:
        raise AssertionError("this middleware does not run")

    return CORSMiddleware(
        nothing,
        allow_origins=origins,
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type", "X-Request-ID"],
        expose_headers=["X-Request-ID", "Server-Timing", "Retry-After"],
    )


async def _problem(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, Problem)
    return problem_response(request.state.request, problem)


async def _http_problem(request: Request, error: Exception) -> Response:
    """Starlette's errors: there is no route for the path, or not for this method."""
    assert isinstance(error, HTTPException)
    path = request.url.path
    known = {
        404: Problem("not_found", f"there is nothing at {path}; see /docs."),
        405: Problem("method_not_allowed", f"{request.method} is not allowed at {path}; see /docs."),
    }
    problem = known.get(error.status_code) or Problem("internal", str(error.detail))
    response = problem_response(request.state.request, problem)
    if allowed := (error.headers or {}).get("Allow"):
        response.headers["allow"] = ", ".join(sorted(allowed.split(", ")))  # Starlette's order varies with the process
    return response
