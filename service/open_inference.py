"""The Open Inference Protocol v2 over HTTP, for clients of KServe and Triton: the models of this service as tensors.

Texts come in as BYTES of shape [N] or [N, 1], and go the way of the other endpoints: `text`, and `text_pair` where
pairs are meant. Parameters of a request are those of the other endpoints, and Triton's `timeout` in microseconds.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import ValidationError

from model_build.bundle import Task
from service import status
from service.answers import Classified, Filled, Inferred, ModelTensors, success
from service.classify import classified
from service.fill_mask import filled
from service.infer_message import (
    Datatype,
    InferRequest,
    OutputRequest,
    OutputTensor,
    read_request,
    refusal,
    write_response,
)
from service.models import ServedModel, Timings
from service.problems import Problem
from service.schemas import ClassifyRequest, FillMaskRequest

HEAD_LENGTH = "Inference-Header-Content-Length"
INPUTS: dict[str, Datatype] = {"text": "BYTES", "text_pair": "BYTES"}
# N texts, K results of each, and M masks in the text that has most; the rest of its row is "" and 0 for other texts.
# With the strategy joint, all masks of a text are one: `tokens` has what fills them, `scores` their token_score.
OUTPUTS: dict[Task, dict[str, tuple[Datatype, int]]] = {
    "classify": {"labels": ("BYTES", 2), "scores": ("FP32", 2), "windows": ("INT32", 1), "truncated": ("BOOL", 1)},
    "fill-mask": {
        "tokens": ("BYTES", 3),
        "scores": ("FP32", 3),
        "sequences": ("BYTES", 3),
        "masks": ("INT32", 1),
        "windows": ("INT32", 1),
        "truncated": ("BOOL", 1),
    },
}
PARAMETERS = {
    "classify": ("top_k", "truncation", "priority", "timeout_ms"),
    "fill-mask": ("top_k", "truncation", "priority", "timeout_ms", "targets", "strategy", "span"),
}


async def by_name(name: str, request: Request) -> None:
    """Finds the model of a path; raises Problem `model_not_found`."""
    request.state.served = request.app.state.models.named(name)
    request.state.model = name


async def by_version(name: str, version: str, request: Request) -> None:
    """The same where the path names a version."""
    await by_name(name, request)
    served = request.state.served.manifest.version
    if version != served:
        raise Problem("model_not_found", f"the model {name!r} is here in version {served}, not in {version!r}.")


ERROR = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
router = APIRouter(
    prefix="/v2",
    tags=["Open Inference Protocol"],
    responses={"default": {"description": "one sentence", "content": {"application/json": {"schema": ERROR}}}},
)
of_model = APIRouter()


@router.get("")
async def server() -> dict[str, str | list[str]]:
    """What this server is."""
    version = importlib.metadata.version("ernie-zh")
    return {"name": "ernie-zh", "version": version, "extensions": ["binary_tensor_data"]}


@router.get("/health/live")
async def live() -> dict[str, bool]:
    """The API process answers."""
    return {"live": True}


@router.get("/health/ready")
async def ready(request: Request) -> dict[str, bool]:
    """Every model can be asked, and no shutdown is under way."""
    await status.ready(request)
    return {"ready": True, "live": True}


@of_model.get("")
async def model(request: Request) -> ModelTensors:
    """The tensors of a model; sizes that vary are -1."""
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
    """Whether a model can be asked."""
    name = request.state.model
    if not (await status.model(name, request))["ready"]:
        raise Problem("not_ready", f"the engine of {name} is starting; try again soon.")
    return {"name": name, "ready": True}


def _described() -> dict[str, Any]:
    """The request for the OpenAPI document. Its body is read by hand, for it need not be JSON alone."""
    schema = InferRequest.model_json_schema()
    definitions = schema.pop("$defs")

    def inlined(part: Any) -> Any:
        if isinstance(part, list):
            return [inlined(each) for each in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return inlined(definitions[part["$ref"].rpartition("/")[2]])
        return {key: inlined(value) for key, value in part.items()}

    example = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["房间很干净，服务也很周到。"]}]}
    content = {"application/json": {"schema": inlined(schema), "example": example}}
    return {"requestBody": {"required": True, "content": content}}


@of_model.post("/infer", openapi_extra=_described(), responses=success(Inferred))
async def infer(request: Request) -> Response:
    """Texts in, tensors out, in JSON or binary."""
    served = request.state.served
    request.state.timings = timings = Timings()
    asked, texts = read_request(await request.body(), request.headers.get(HEAD_LENGTH))
    wanted = _wanted(asked, served.manifest.task)
    tensors = {tensor.name: tensor for tensor in await _tensors(served, asked, texts, timings)}
    head = {"model_name": served.name, "model_version": served.manifest.version}
    if asked.id is not None:
        head["id"] = asked.id
    body, head_length = write_response(head, [(tensors[name], binary) for name, binary in wanted.items()])
    if head_length is None:
        return Response(body, media_type="application/json")
    return Response(body, headers={HEAD_LENGTH: str(head_length)}, media_type="application/octet-stream")


router.include_router(of_model, prefix="/models/{name}", dependencies=[Depends(by_name)])
router.include_router(of_model, prefix="/models/{name}/versions/{version}", dependencies=[Depends(by_version)])


def _wanted(asked: InferRequest, task: Task) -> dict[str, bool]:
    """The outputs asked for by name, and whether in binary; all of them where none is named."""
    binary = (asked.parameters or {}).get("binary_data_output", False)
    if not isinstance(binary, bool):
        raise Problem("invalid_input", "parameters.binary_data_output must be true or false.")
    wanted: dict[str, bool] = {}
    for each in asked.outputs or [OutputRequest(name=name) for name in OUTPUTS[task]]:
        if each.name not in OUTPUTS[task]:
            raise Problem("invalid_input", f"there is no output {each.name!r}; there is {', '.join(OUTPUTS[task])}.")
        if each.name in wanted:
            raise Problem("invalid_input", f"the output {each.name!r} is asked for twice.")
        how = each.parameters
        if how and how.classification:
            raise Problem("invalid_input", "classification is an extension not known here; ask for labels and scores.")
        if how and how.shared_memory_region is not None:
            raise Problem("invalid_input", "outputs are not written to shared memory; take them from the answer.")
        wanted[each.name] = binary if how is None or how.binary_data is None else how.binary_data
    return wanted


async def _tensors(
    served: ServedModel, asked: InferRequest, texts: dict[str, list[str]], timings: Timings
) -> list[OutputTensor]:
    """Asks the model as the endpoint of its task does; raises Problem."""
    if unknown := texts.keys() - INPUTS:
        raise Problem("invalid_input", f"there is no input {min(unknown)!r}; there is {', '.join(INPUTS)}.")
    if "text" not in texts:
        raise Problem("invalid_input", 'the input "text" is missing.')
    pairs = texts.get("text_pair", [None] * len(texts["text"]))
    if len(pairs) != len(texts["text"]):
        raise Problem("invalid_input", f"text has {len(texts['text'])} elements and text_pair {len(pairs)}.")
    inputs = [{"text": text, "text_pair": pair} for text, pair in zip(texts["text"], pairs, strict=True)]
    body = {"inputs": inputs, "model": served.name, **_parameters(asked, served.manifest.task)}
    try:
        if served.manifest.task == "classify":
            return _labels(await classified(served, ClassifyRequest.model_validate(body), timings))
        return _masks(await filled(served, FillMaskRequest.model_validate(body), timings, padded=True))
    except ValidationError as error:
        inside = error.errors()[0]["loc"][:1] == ("inputs",)
        raise refusal(error, *(() if inside else ("parameters",))) from None


def _parameters(asked: InferRequest, task: Task) -> dict[str, Any]:
    """What a request says besides its texts, as the endpoint of the task takes it."""
    given = {name: value for name, value in (asked.parameters or {}).items() if name != "binary_data_output"}
    if "timeout" in given and "timeout_ms" not in given:
        timeout = given.pop("timeout")
        if type(timeout) is not int or timeout <= 0:
            raise Problem("invalid_input", "parameters.timeout must be a whole number of microseconds above 0.")
        given["timeout_ms"] = -(-timeout // 1000)
    if type(given.get("priority")) is int:
        # Triton's: the lower the number the sooner, and 0 is whatever is usual.
        given["priority"] = "interactive" if given["priority"] <= 1 else "batch"
    if unknown := given.keys() - PARAMETERS[task]:
        known = ", ".join(PARAMETERS[task])
        raise Problem("invalid_input", f"there is no parameter {min(unknown)!r} for {task}; there is {known}.")
    return given


def _labels(results: Sequence[Classified]) -> list[OutputTensor]:
    """N texts with K labels each."""
    ranked = [each for result in results for each in result["labels"]]
    shape = (len(results), len(ranked) // len(results))
    return [
        OutputTensor("labels", "BYTES", shape, [each["label"] for each in ranked]),
        OutputTensor("scores", "FP32", shape, [each["score"] for each in ranked]),
        *_reading(results),
    ]


def _masks(results: Sequence[Filled]) -> list[OutputTensor]:
    """N texts with M masks of K candidates each; what a text has less is filled up with "" and 0."""
    texts = [_candidates(result) for result in results]
    counts = [len(masks) for masks in texts]
    depth = max(len(candidates) for masks in texts for candidates in masks)
    shape = (len(results), max(counts), depth)
    rows = [[*masks, *[[]] * (max(counts) - len(masks))] for masks in texts]
    flat = [each for row in rows for mask in row for each in [*mask, *[("", 0.0, "")] * (depth - len(mask))]]
    return [
        OutputTensor("tokens", "BYTES", shape, [token for token, _, _ in flat]),
        OutputTensor("scores", "FP32", shape, [score for _, score, _ in flat]),
        OutputTensor("sequences", "BYTES", shape, [sequence for _, _, sequence in flat]),
        OutputTensor("masks", "INT32", (len(results),), counts),
        *_reading(results),
    ]


def _candidates(result: Filled) -> list[list[tuple[str, float, str]]]:
    """Token, score and sequence of the candidates of every mask of a text."""
    if "fills" in result:
        return [[(fill["text"], fill["token_score"], fill["sequence"]) for fill in result["fills"]]]
    return [[(each["token"], each["score"], each["sequence"]) for each in mask] for mask in result["masks"]]


def _reading(results: Sequence[Classified | Filled]) -> list[OutputTensor]:
    """How each text was read."""
    shape = (len(results),)
    return [
        OutputTensor("windows", "INT32", shape, [result["windows"] for result in results]),
        OutputTensor("truncated", "BOOL", shape, [result["truncated"] for result in results]),
    ]
