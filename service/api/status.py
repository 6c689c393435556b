"""GET /health/live, /health/ready, /models, /metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from service.api.answers import Description, Descriptions, Health
from service.api.models.served import ServedModel
from service.problem import Problem

router = APIRouter()


@router.head("/health/live", include_in_schema=False)
@router.get("/health/live")
async def live() -> Health:
    """The API process answers."""
    return {"status": "live"}


@router.head("/health/ready", include_in_schema=False)
@router.get("/health/ready")
async def ready(request: Request) -> Health:
    """Every engine has warmed up, every API process serves every model, and the service is not shutting down."""
    refuse_draining(request)
    if reason := request.app.state.catalog.unready:
        raise Problem("not_ready", reason)
    readiness = request.app.state.readiness
    if readiness.starting:
        raise Problem("not_ready", f"the number of API processes that are still starting is {readiness.starting}.")
    if readiness.models:
        raise Problem("not_ready", f"not every API process serves {', '.join(readiness.models)} yet.")
    return {"status": "ready"}


def refuse_draining(request: Request) -> None:
    """Raises Problem `draining` if the service is shutting down."""
    if request.app.state.draining:
        raise Problem("draining", "the service is shutting down.", retry_after=5)


@router.get("/models")
async def models(request: Request) -> Descriptions:
    """Every model of this service."""
    return {"models": [_description(model) for model in request.app.state.catalog.served.values()]}


@router.get("/models/{name}")
async def model(name: str, request: Request) -> Description:
    """One model."""
    return _description(request.app.state.catalog.named(name))


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Metrics for Prometheus; 503 if the counts of the other processes cannot be read: a part would be wrong."""
    try:
        text = request.app.state.metrics.text()
    except OSError as error:
        raise Problem("not_ready", f"the metrics of the other processes cannot be read: {error.strerror}.") from error
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})


def _description(model: ServedModel) -> Description:
    manifest, ready = model.manifest, model.engine.ready
    return {
        "name": manifest.name,
        "version": manifest.version,
        "task": manifest.task,
        "max_length": manifest.max_length,
        "labels": model.labels(ready.num_outputs if ready else 0),
        "scores": model.scores if manifest.task == "classify" else None,
        "top_candidates": manifest.top_candidates,
        "evaluation": manifest.evaluation,
        "ready": model.ready,
        "backend": ready.backend if ready else None,
    }
