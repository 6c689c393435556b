"""Messages of the Open Inference Protocol v2: a JSON head, with the tensors in the head or as bytes after it.

https://github.com/kserve/open-inference-protocol (inference_rest.md), and Triton's binary tensor data extension. All
inputs have the datatype BYTES: text in UTF-8.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from service.api.request_bodies import MAX_INPUTS, Decoder
from service.api.tasks.results import json_list
from service.api.turn import Turn
from service.problem import Problem

Datatype = Literal["BYTES", "FP32", "INT32", "BOOL"]
_STRUCT_CODES = {"FP32": "f", "INT32": "i", "BOOL": "?"}
_MAX_TENSORS = 16
# A tensor with more elements is written in slices, and other requests run between.
ELEMENTS_AT_ONCE = 2000
_Size = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class InputTensor(msgspec.Struct):
    """`data` in the head, or `parameters.binary_data_size` bytes after it."""

    name: str
    datatype: str
    shape: Annotated[list[_Size], Meta(max_length=8)]
    parameters: dict[str, Any] | None = None
    data: list[Any] | None = None


class OutputParameters(msgspec.Struct):
    """The requested form of a tensor."""

    binary_data: bool | None = None
    classification: int = 0
    shared_memory_region: str | None = None


class OutputRequest(msgspec.Struct):
    """A requested tensor."""

    name: str
    parameters: OutputParameters | None = None


class InferRequest(msgspec.Struct):
    """The head of a request. Unknown fields are ignored, as the protocol requires."""

    inputs: Annotated[list[InputTensor], Meta(min_length=1, max_length=_MAX_TENSORS)]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: Annotated[list[OutputRequest], Meta(max_length=_MAX_TENSORS)] | None = None


_decoder = Decoder(InferRequest, half_surrogate="invalid_json")


@dataclass(frozen=True)
class OutputTensor:
    """`data` in row-major order: str for BYTES, float for FP32, int for INT32, bool for BOOL."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    data: Sequence[Any]

    async def raw(self) -> bytes:
        """Little-endian bytes without padding. Before each element of BYTES is its length as a uint32."""
        parts: list[bytes] = []
        turn = Turn()
        for start in range(0, len(self.data), ELEMENTS_AT_ONCE):
            data = self.data[start : start + ELEMENTS_AT_ONCE]
            if self.datatype == "BYTES":
                encoded = [text.encode() for text in data]
                parts += [part for text in encoded for part in (struct.pack("<I", len(text)), text)]
            else:
                parts.append(struct.pack(f"<{len(data)}{_STRUCT_CODES[self.datatype]}", *data))
            await turn.pause()
        return b"".join(parts)


def read_request(body: bytes, head_length: str | None) -> tuple[InferRequest, dict[str, list[str]]]:
    """The head of a request, and the texts of each input by name.

    `head_length` is the header Inference-Header-Content-Length; requests with binary tensors have it. Raises Problem.
    """
    head, tail = _parted(body, head_length)
    if not head:
        raise Problem("invalid_json", "the JSON at the start of the body is missing.")
    request = _decoder.decode(head)
    texts: dict[str, list[str]] = {}
    for tensor in request.inputs:
        if tensor.name in texts:
            raise _invalid(tensor, "is there twice")
        count = _count(tensor)
        size = _binary_size(tensor)
        if size is None:
            texts[tensor.name] = _listed(tensor, count)
            continue
        if size > len(tail):
            where = "in the body" if head_length else "without the header Inference-Header-Content-Length"
            raise _invalid(
                tensor, f"has a binary_data_size of {size}, more than the {len(tail)} bytes left for it {where}"
            )
        texts[tensor.name] = _unpacked(tensor, count, tail[:size])
        tail = tail[size:]
    if tail:
        raise Problem("invalid_input", f"the body ends with {len(tail)} bytes that belong to no input.")
    return request, texts


async def write_response(
    head: dict[str, Any], tensors: Sequence[tuple[OutputTensor, bool]]
) -> tuple[bytes, int | None]:
    """The body of an answer, and the length of its head if any tensor is binary (True)."""
    described: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for tensor, binary in tensors:
        about = {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}
        if binary:
            tail.append(await tensor.raw())
            described.append({**about, "parameters": {"binary_data_size": len(tail[-1])}})
        else:
            long = len(tensor.data) > ELEMENTS_AT_ONCE
            described.append({**about, "data": await json_list(tensor.data, ELEMENTS_AT_ONCE) if long else tensor.data})
    encoded = msgspec.json.encode({**head, "outputs": described})
    return b"".join([encoded, *tail]), len(encoded) if tail else None


def _invalid(tensor: InputTensor, what: str) -> Problem:
    return Problem("invalid_input", f"the input {json.dumps(tensor.name, ensure_ascii=False)} {what}.")


def _parted(body: bytes, head_length: str | None) -> tuple[bytes, bytes]:
    if head_length is None:
        return body, b""
    # Python converts a number with thousands of digits slowly, or raises.
    digits = head_length.isascii() and head_length.isdigit() and len(head_length) < 20
    if not digits or int(head_length) > len(body):
        raise Problem(
            "invalid_input",
            f"the header Inference-Header-Content-Length is {head_length!r}, but must be the length of the JSON at the "
            f"start of the body, which has {len(body)} bytes.",
        )
    return body[: int(head_length)], body[int(head_length) :]


def _count(tensor: InputTensor) -> int:
    """The number of texts, by the shape of the tensor."""
    if tensor.datatype != "BYTES":
        raise _invalid(tensor, f"has the datatype {tensor.datatype!r}, but must be BYTES")
    if len(tensor.shape) not in (1, 2) or tensor.shape[1:] not in ([], [1]) or not tensor.shape[0]:
        raise _invalid(tensor, f"has the shape {tensor.shape}, but must be [N] or [N, 1] with at least one text")
    if tensor.shape[0] > MAX_INPUTS:
        raise Problem("too_large", f"the request has {tensor.shape[0]} inputs, but at most {MAX_INPUTS} are allowed.")
    return tensor.shape[0]


def _binary_size(tensor: InputTensor) -> int | None:
    parameters = tensor.parameters or {}
    if "shared_memory_region" in parameters:
        raise _invalid(tensor, "is in shared memory, which this service does not read; send it in the body")
    if parameters.get("content_type", "str") != "str":
        raise _invalid(tensor, "has an unknown content_type; send plain text, or leave it out")
    size = parameters.get("binary_data_size")
    if (size is None) == (tensor.data is None):
        raise _invalid(tensor, "must have either data or a binary_data_size")
    if size is not None and (type(size) is not int or size < 0):
        raise _invalid(tensor, "has a binary_data_size that is not a whole number of bytes")
    return size


def _listed(tensor: InputTensor, count: int) -> list[str]:
    data = tensor.data or []
    if len(data) != count:
        raise _invalid(tensor, f"has {len(data)} elements, but by its shape {tensor.shape} it must have {count}")
    if len(tensor.shape) == 2:  # the data of shape [N, 1] may be a list of lists
        data = [each[0] if isinstance(each, list) and len(each) == 1 else each for each in data]
    for index, each in enumerate(data):
        if not isinstance(each, str):
            raise _invalid(tensor, f"has an element at {index} that is not a string")
    return data


def _unpacked(tensor: InputTensor, count: int, raw: bytes) -> list[str]:
    texts: list[str] = []
    start = 0
    for index in range(count):
        end = start + 4
        if end > len(raw):
            raise _invalid(tensor, f"ends before the length of its element {index}")
        length = int.from_bytes(raw[start:end], "little")
        start, end = end, end + length
        if end > len(raw):
            raise _invalid(
                tensor, f"gives element {index} a length of {length} bytes, more than the {len(raw) - start} left of it"
            )
        try:
            texts.append(raw[start:end].decode("utf-8"))
        except UnicodeDecodeError as error:
            raise _invalid(tensor, f"has an element at {index} that is not UTF-8 at its byte {error.start}") from None
        start = end
    if start < len(raw):
        raise _invalid(tensor, f"has {len(raw) - start} bytes too many after element {count - 1}")
    return texts
