"""GET /v2: the server, its health, and its models as tensors, by the Open Inference Protocol v2."""

from __future__ import annotations

import importlib.metadata

from fastapi import APIRouter, Depends, Request

from service.api import status
from service.api.answers import ModelTensors
from service.api.tasks.open_inference.infer import INPUTS, OUTPUTS, find
from service.problem import Problem

ERROR = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
TAG = "Open Inference Protocol"
ERROR_RESPONSES = {"default": {"description": "one sentence", "content": {"application/json": {"schema": ERROR}}}}


async def by_name(name: str, request: Request) -> None:
    """Finds the model of a path; raises Problem `model_not_found`."""
    request.state.served = find(request.app.state.catalog, request.state.request, name)


async def by_version(name: str, version: str, request: Request) -> None:
    """The same for a path that names a version."""
    request.state.served = find(request.app.state.catalog, request.state.request, name, version)


router = APIRouter(prefix="/v2", tags=[TAG], responses=ERROR_RESPONSES)  # type: ignore[arg-type]
of_model = APIRouter()


@router.get("")
async def server() -> dict[str, str | list[str]]:
    """Name, version and extensions of this server."""
    version = importlib.metadata.version("ernie-zh")
    return {"name": "ernie-zh", "version": version, "extensions": ["binary_tensor_data"]}


@router.get("/health/live")
async def live() -> dict[str, bool]:
    """The API process answers."""
    return {"live": True}


@router.get("/health/ready")
async def ready(request: Request) -> dict[str, bool]:
    """Every model is ready, and the service is not shutting down."""
    await status.ready(request)
    return {"ready": True, "live": True}


@of_model.get("")
async def model(request: Request) -> ModelTensors:
    """The tensors of a model; -1 means a variable size."""
    manifest = request.state.served.manifest
    return {
        "name": manifest.name,
        "versions": [manifest.version],
        "platform": "ernie",
        "inputs": [{"name": name, "datatype": datatype, "shape": [-1]} for name, datatype in INPUTS.items()],
        "outputs": [
            {"name": name, "datatype": datatype, "shape": [-1] * dimensions}
            for name, (datatype, dimensions) in OUTPUTS[manifest.task].items()
        ],
    }


@of_model.get("/ready")
async def model_ready(request: Request) -> dict[str, str | bool]:
    """Whether every API process serves a model, and the service is not shutting down."""
    status.refuse_draining(request)
    served = request.state.served
    if not served.ready:
        raise Problem("not_ready", f"the engine of {served.name} is starting; try again soon.")
    if served.name in request.app.state.readiness.models:
        raise Problem("not_ready", f"not every API process serves {served.name} yet; try again soon.")
    return {"name": served.name, "ready": True}


router.include_router(of_model, prefix="/models/{name}", dependencies=[Depends(by_name)])
router.include_router(of_model, prefix="/models/{name}/versions/{version}", dependencies=[Depends(by_version)])
