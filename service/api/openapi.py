"""The OpenAPI document: FastAPI's document, with the bodies of POST requests from their msgspec structs.

FastAPI does not read these bodies, so it cannot describe them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from fastapi import APIRouter, FastAPI

from service.api.answers import Classified, Filled, Inferred, Reload, Results, Tokenized
from service.api.asgi_adapter import ExchangeRoute
from service.api.exchange import Endpoint
from service.api.request_bodies import ClassifyRequest, FillMaskRequest, TokenizeRequest
from service.api.tasks.open_inference.metadata import ERROR_RESPONSES, TAG
from service.api.tasks.open_inference.wire import InferRequest
from service.problem import STATUS, ProblemDocument

_REF = "#/components/schemas/{name}"
_PROBLEM = {"application/problem+json": {"schema": {"$ref": _REF.format(name="ProblemDocument")}}}
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {
        "description": " or ".join(code for code, of in STATUS.items() if of == status),
        "content": _PROBLEM,
    }
    for status in sorted(set(STATUS.values()) - {500})
}
"""The errors that any route may answer."""
EXAMPLES: dict[type, Any] = {
    ClassifyRequest: {"inputs": ["房间很干净，服务也很周到。", "质量太差了，非常失望。"]},
    FillMaskRequest: {"inputs": "他把钱存进了[MASK]行。", "top_k": 5},
    TokenizeRequest: {"inputs": "今天25℃，二〇〇八年", "model": "sentiment"},
    InferRequest: {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["房间很干净。"]}]},
}


async def classify() -> Any:
    """Labels and scores for every input, the highest score first; `top_k` and `threshold` limit their number.

    `scores` in /models says what the scores are: `softmax` (one label a text), `sigmoid` (any number of labels a text)
    or `raw` (the outputs of the model). A text that is longer than the model allows is read in windows. Its scores are
    the mean over the windows, weighted by their tokens; with `sigmoid`, the largest score of each label.
    """


async def fill_mask() -> Any:
    """Candidates for the masks of every input, the likeliest first.

    `independent`, like the fill-mask pipeline of Hugging Face: `masks` has a list for each mask, which is filled while
    the others stay masks. Unlike in that pipeline, a list of one text gives a list of one result, special tokens are
    not candidates, and a target of several tokens is scored as a whole, not by its first token.

    `joint`: `fills` is a list of ways to fill all masks of the text together, as one word or entity. `score` is the
    product of the probabilities of its tokens, each given those before it. If the number of tokens is not fixed
    (`[MASK]+`, or `span`), the ways are ranked by `token_score`, the geometric mean.
    """


async def tokenize() -> Any:
    """The tokens of every input as a model reads them, with ids and offsets. The model does not run.

    `offsets` count code points of the text as sent: `text[start:end]` in Python. Texts are neither cut nor split into
    windows.
    """


async def infer() -> Any:
    """Texts in, tensors out, in JSON or binary. The parameters are the fields of the endpoint of the model's task."""


async def reload() -> Any:
    """Reads the model repository again: loads new models and new versions, and unloads removed models.

    If a new version is rejected, the old one stays. Answers when all changes are done. No request fails because of a
    reload.
    """


_PROBLEMS = {"responses": RESPONSES}
_PROTOCOL = {"responses": ERROR_RESPONSES, "tags": [TAG]}
_WORK: dict[str, tuple[Callable[[], Any], type | None, Any, dict[str, Any]]] = {
    "/classify": (classify, ClassifyRequest, Results[Classified], _PROBLEMS),
    "/fill-mask": (fill_mask, FillMaskRequest, Results[Filled], _PROBLEMS),
    "/tokenize": (tokenize, TokenizeRequest, Results[Tokenized], _PROBLEMS),
    "/v2/models/{name}/infer": (infer, InferRequest, Inferred, _PROTOCOL),
    "/v2/models/{name}/versions/{version}/infer": (infer, InferRequest, Inferred, _PROTOCOL),
    "/admin/reload": (reload, None, Reload, _PROBLEMS),
}
"""By path: description, body, answer, and other keys of the operation."""


def work_routes(endpoints: Sequence[Endpoint]) -> APIRouter:
    """A route for each endpoint of the exchange, with its description."""
    router = APIRouter(route_class=ExchangeRoute)
    for endpoint in endpoints:
        described, body, answer, more = _WORK[endpoint.path]
        responses = {**more["responses"], 200: {"model": answer, "description": "Successful Response"}}
        router.add_api_route(
            endpoint.path,
            described,
            methods=["POST"],
            response_model=None,
            responses=responses,
            tags=more.get("tags"),
            openapi_extra=_path_parameters(endpoint.path) | (_request_body(body) if body else {}),
        )
    return router


def _path_parameters(path: str) -> dict[str, Any]:
    names = [part.strip("{}") for part in path.split("/") if part.startswith("{")]
    described = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    return {"parameters": described} if described else {}


def _request_body(body: type) -> dict[str, Any]:
    content = {"schema": {"$ref": _REF.format(name=body.__name__)}, "example": EXAMPLES[body]}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def install(app: FastAPI) -> None:
    """Adds the schemas that FastAPI does not know to the document of `app`."""
    made_by_fastapi = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = made_by_fastapi()
            document.setdefault("components", {}).setdefault("schemas", {}).update(_schemas())
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _schemas() -> dict[str, Any]:
    _, schemas = msgspec.json.schema_components([*EXAMPLES, ProblemDocument], ref_template=_REF)
    for body in (ClassifyRequest, FillMaskRequest):
        schemas[body.__name__]["oneOf"] = [{"required": ["inputs"]}, {"required": ["text"]}]
    return schemas
