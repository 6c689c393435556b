"""POST /v2/models/NAME/infer of the Open Inference Protocol, for clients of KServe and Triton.

Texts are inputs of type BYTES and shape [N] or [N, 1]: `text`, and `text_pair` for pairs. The parameters of a request
are the fields of the endpoint of the model's task, and Triton's `timeout` in microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from model_build.bundle import Task
from service.api.answers import Classified, Filled
from service.api.exchange import Answer, Work
from service.api.models.catalog import Catalog
from service.api.models.served import ServedModel
from service.api.request import Request, Timings
from service.api.request_bodies import Body, Decoder
from service.api.tasks.classify import Classify, classified
from service.api.tasks.fill_mask.endpoint import FillMask, filled
from service.api.tasks.open_inference.wire import (
    Datatype,
    InferRequest,
    OutputRequest,
    OutputTensor,
    read_request,
    write_response,
)
from service.api.turn import Turn
from service.problem import Problem

HEAD_LENGTH = "Inference-Header-Content-Length"
INPUTS: dict[str, Datatype] = {"text": "BYTES", "text_pair": "BYTES"}
# Shapes: N texts, M masks, K results. K is the largest number of labels of a text; the rows of texts with fewer labels
# above the threshold end with "" and 0. M is the largest number of masks in a text; the rows of texts with fewer masks
# end with "" and 0. With the strategy joint M is 1: `tokens` has the tokens for all masks, `scores` the token_score.
OUTPUTS: dict[Task, dict[str, tuple[Datatype, int]]] = {
    "classify": {
        "labels": ("BYTES", 2),
        "scores": ("FP32", 2),
        "windows": ("INT32", 1),
        "truncated": ("BOOL", 1),
        "unknown": ("INT32", 1),
    },
    "fill-mask": {
        "tokens": ("BYTES", 3),
        "scores": ("FP32", 3),
        "sequences": ("BYTES", 3),
        "masks": ("INT32", 1),
        "windows": ("INT32", 1),
        "truncated": ("BOOL", 1),
        "unknown": ("INT32", 1),
    },
}
PARAMETERS = {
    "classify": ("top_k", "truncation", "priority", "timeout_ms", "special_tokens", "threshold", "raw_scores"),
    "fill-mask": ("top_k", "truncation", "priority", "timeout_ms", "special_tokens", "targets", "strategy", "span"),
}


def find(catalog: Catalog, request: Request, name: str, version: str | None = None) -> ServedModel:
    """The model that a path names; records its name in the request. Raises Problem."""
    served = catalog.named(name)
    request.model = name
    if version not in (None, served.manifest.version):
        raise Problem(
            "model_not_found", f"the model {name!r} is here in version {served.manifest.version}, not in {version!r}."
        )
    return served


class Infer:
    """The endpoint, for the newest version of a model."""

    path = "/v2/models/{name}/infer"

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def answer(self, request: Work, body: bytes) -> Answer:
        """Texts in, tensors out, in JSON or binary; raises Problem."""
        served = find(self._catalog, request, **request.parameters)
        request.timings = timings = Timings()
        head_length = request.first_header.get(HEAD_LENGTH.lower().encode())
        asked, texts = read_request(body, None if head_length is None else head_length.decode("latin-1"))
        wanted = _wanted(asked, served.manifest.task)
        tensors = {tensor.name: tensor for tensor in await _tensors(served, asked, texts, timings)}
        head = {"model_name": served.name, "model_version": served.manifest.version}
        if asked.id is not None:
            head["id"] = asked.id
        written, length = await write_response(head, [(tensors[each], binary) for each, binary in wanted.items()])
        if length is None:
            return Answer(200, written)
        return Answer(200, written, "application/octet-stream", [(HEAD_LENGTH.lower().encode(), b"%d" % length)])


class InferVersion(Infer):
    """The endpoint that names a version."""

    path = "/v2/models/{name}/versions/{version}/infer"


def _wanted(asked: InferRequest, task: Task) -> dict[str, bool]:
    """The names of the requested outputs, and whether each is binary; all outputs if the request names none."""
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
            raise Problem("invalid_input", "the classification extension is not supported; ask for labels and scores.")
        if how and how.shared_memory_region is not None:
            raise Problem("invalid_input", "outputs in shared memory are not supported; read them from the answer.")
        wanted[each.name] = binary if how is None or how.binary_data is None else how.binary_data
    return wanted


async def _tensors(
    served: ServedModel, asked: InferRequest, texts: dict[str, list[str]], timings: Timings
) -> list[OutputTensor]:
    """Runs the endpoint of the model's task; raises Problem."""
    if unknown := texts.keys() - INPUTS:
        raise Problem("invalid_input", f"there is no input {min(unknown)!r}; there is {', '.join(INPUTS)}.")
    if "text" not in texts:
        raise Problem("invalid_input", 'the input "text" is missing.')
    pairs = texts.get("text_pair", [None] * len(texts["text"]))
    if len(pairs) != len(texts["text"]):
        raise Problem("invalid_input", f"text has {len(texts['text'])} elements and text_pair {len(pairs)}.")
    inputs = [{"text": text, "text_pair": pair} for text, pair in zip(texts["text"], pairs, strict=True)]
    body = {"inputs": inputs, "model": served.name, **_parameters(asked, served.manifest.task)}
    if served.manifest.task == "classify":
        return await _labels(await classified(served, _converted(Classify.decoder, body), timings))
    return _masks(await filled(served, _converted(FillMask.decoder, body), timings, padded=True))


def _converted(decoder: Decoder[Body], body: dict[str, Any]) -> Body:
    """The body as a request of the task's endpoint. A Problem names fields other than inputs as parameters."""
    try:
        return decoder.convert(body)
    except Problem as problem:
        if problem.code != "invalid_input" or problem.detail.startswith(("inputs", "the body")):
            raise
        raise Problem(problem.code, f"parameters.{problem.detail}") from None


def _parameters(asked: InferRequest, task: Task) -> dict[str, Any]:
    """The parameters as fields of the endpoint of the task; raises Problem."""
    given = {name: value for name, value in (asked.parameters or {}).items() if name != "binary_data_output"}
    if "timeout" in given and "timeout_ms" not in given:
        timeout = given.pop("timeout")
        if type(timeout) is not int or timeout <= 0:
            raise Problem("invalid_input", "parameters.timeout must be a whole number of microseconds above 0.")
        given["timeout_ms"] = -(-timeout // 1000)
    if type(given.get("priority")) is int:
        # In Triton a lower number runs first, and 0 is the default.
        given["priority"] = "interactive" if given["priority"] <= 1 else "batch"
    if unknown := given.keys() - PARAMETERS[task]:
        known = ", ".join(PARAMETERS[task])
        raise Problem("invalid_input", f"there is no parameter {min(unknown)!r} for {task}; there is {known}.")
    return given


async def _labels(results: Sequence[Classified]) -> list[OutputTensor]:
    """N texts with K labels each; with a threshold, rows of fewer labels are filled with "" and 0."""
    labels: list[str] = []
    scores: list[float] = []
    depth = max(len(result["labels"]) for result in results)
    turn = Turn()
    for result in results:
        missing = depth - len(result["labels"])
        labels += [each["label"] for each in result["labels"]] + [""] * missing
        scores += [each["score"] for each in result["labels"]] + [0.0] * missing
        await turn.pause()
    shape = (len(results), depth)
    return [
        OutputTensor("labels", "BYTES", shape, labels),
        OutputTensor("scores", "FP32", shape, scores),
        *_windows(results),
    ]


def _masks(results: Sequence[Filled]) -> list[OutputTensor]:
    """N texts with M masks of K candidates each; shorter rows are filled with "" and 0."""
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
        *_windows(results),
    ]


def _candidates(result: Filled) -> list[list[tuple[str, float, str]]]:
    """Token, score and sequence of the candidates of every mask of a text."""
    if "fills" in result:
        return [[(fill["text"], fill["token_score"], fill["sequence"]) for fill in result["fills"]]]
    return [[(each["token"], each["score"], each["sequence"]) for each in mask] for mask in result["masks"]]


def _windows(results: Sequence[Classified | Filled]) -> list[OutputTensor]:
    """The number of windows of each text, whether it was cut, and the number of its unknown tokens."""
    shape = (len(results),)
    return [
        OutputTensor("windows", "INT32", shape, [result["windows"] for result in results]),
        OutputTensor("truncated", "BOOL", shape, [result["truncated"] for result in results]),
        OutputTensor("unknown", "INT32", shape, [result["unknown"] for result in results]),
    ]
