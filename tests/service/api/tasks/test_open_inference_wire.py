"""Messages of the Open Inference Protocol against tritonclient's own packing, and against whatever bytes may come."""

import asyncio
import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.http import InferResult
from tritonclient.utils import serialize_byte_tensor

from service.api.tasks.open_inference.wire import OutputTensor, read_request, write_response
from service.problem import Problem

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def packed(*texts: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def message(raw: bytes, shape: object = (1,), datatype: str = "BYTES", **tensor: object) -> tuple[bytes, str]:
    """A body with one binary tensor, and the header that belongs to it."""
    described = {"name": "text", "datatype": datatype, "shape": shape, **tensor}
    described.setdefault("parameters", {"binary_data_size": len(raw)})
    head = json.dumps({"inputs": [described]}).encode()
    return head + raw, str(len(head))


@given(texts=st.lists(words, min_size=1, max_size=8))
def test_texts_packed_by_tritonclient_are_read_as_they_were(texts: list[str]) -> None:
    raw = serialize_byte_tensor(np.array([text.encode() for text in texts], dtype=np.object_)).item()
    request, read = read_request(*message(raw, [len(texts)]))
    assert read == {"text": texts}
    assert request.id is None


@given(texts=st.lists(words, min_size=1, max_size=8), binary=st.lists(st.booleans(), min_size=4, max_size=4))
def test_answers_are_read_by_tritonclient_in_json_and_in_binary(texts: list[str], binary: list[bool]) -> None:
    count = len(texts)
    scores = [0.5 / (place + 1) for place in range(count)]
    tensors = [
        OutputTensor("labels", "BYTES", (1, count), texts),
        OutputTensor("scores", "FP32", (1, count), scores),
        OutputTensor("masks", "INT32", (count,), list(range(count))),
        OutputTensor("truncated", "BOOL", (count,), [place % 2 == 0 for place in range(count)]),
    ]
    body, head_length = asyncio.run(write_response({"model_name": "m"}, list(zip(tensors, binary, strict=True))))
    assert (head_length is not None) == any(binary)
    result = InferResult.from_response_body(body, header_length=head_length)
    labels = result.as_numpy("labels").reshape(-1).tolist()
    assert [each.decode() if isinstance(each, bytes) else each for each in labels] == texts
    assert result.as_numpy("scores").dtype == np.float32
    np.testing.assert_allclose(result.as_numpy("scores"), [scores], rtol=1e-6)
    assert result.as_numpy("masks").tolist() == list(range(count))
    assert result.as_numpy("truncated").tolist() == [place % 2 == 0 for place in range(count)]


def test_a_pair_of_binary_tensors_is_parted_by_their_sizes_and_an_input_in_json_takes_no_bytes() -> None:
    head = json.dumps(
        {
            "inputs": [
                {"name": "a", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 11}},
                {"name": "b", "datatype": "BYTES", "shape": [2, 1], "data": [["今"], ["天"]]},
                {"name": "c", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 4}},
            ]
        }
    ).encode()
    _, texts = read_request(head + packed("今".encode(), b"") + packed(b""), str(len(head)))
    assert texts == {"a": ["今", ""], "b": ["今", "天"], "c": [""]}


OK = packed(b"ok")
TWICE = [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["ok"]}] * 2
MALFORMED = [
    (message(OK[:-1]), "422 the input \"text\" gives element 0 a length of 2 bytes, more than the 1 left of it."),
    (message(OK[:3]), '422 the input "text" ends before the length of its element 0.'),
    (message(OK, [2]), '422 the input "text" ends before the length of its element 1.'),
    (message(OK + OK), '422 the input "text" has 6 bytes too many after element 0.'),
    (message(b"\xff\xff\xff\xffok"), "a length of 4294967295 bytes, more than the 2 left of it."),
    (message(packed(b"ok", b"\xe4\xbb"), [2]), "has an element at 1 that is not UTF-8 at its byte 0."),
    (message(packed(b"\xed\xa0\x80")), "has an element at 0 that is not UTF-8 at its byte 0."),
    (message(OK, datatype="FP32"), "422 the input \"text\" has the datatype 'FP32', but must be BYTES."),
    (message(OK, []), '422 the input "text" has the shape [], but must be [N] or [N, 1] with at least one text.'),
    (message(b"", [0]), "has the shape [0], but must be [N] or [N, 1]"),
    (message(OK + OK, [1, 2]), "has the shape [1, 2], but must be [N] or [N, 1]"),
    (message(OK, [-1]), "422 inputs[0].shape[0] must be a whole number of at least 0."),
    (message(OK, [2**63]), "422 inputs[0].shape[0] must be a whole number of at most"),
    (message(OK, [1.5]), "422 inputs[0].shape[0]"),
    (message(OK, [True]), "422 inputs[0].shape[0]"),
    (message(OK, [1] * 9), "422 inputs[0].shape"),
    (message(OK, [2**62]), f"413 the request has {2**62} inputs, but at most 1024 are allowed."),
    (message(b"\0" * 400_000, [100_000]), "413 the request has 100000 inputs, but at most 1024 are allowed."),
    (message(OK, parameters={"binary_data_size": 7}), "has a binary_data_size of 7, more than the 6 bytes left for it"),
    (message(OK, parameters={"binary_data_size": 10**30}), "more than the 6 bytes left for it in the body."),
    (message(OK, parameters={"binary_data_size": 5}), "a length of 2 bytes, more than the 1 left of it."),
    (message(OK, parameters={"binary_data_size": -6}), "has a binary_data_size that is not a whole number of bytes."),
    (message(OK, parameters={"binary_data_size": True}), "has a binary_data_size that is not a whole number of bytes."),
    (message(OK, parameters={"binary_data_size": "6"}), "has a binary_data_size that is not a whole number of bytes."),
    (message(OK, data=["ok"]), '422 the input "text" must have either data or a binary_data_size.'),
    (message(OK, parameters={}), '422 the input "text" must have either data or a binary_data_size.'),
    (message(b"", data=["ok"], parameters=None, shape=[2]), "has 1 elements, but by its shape [2] it must have 2."),
    (message(b"", data=[3], parameters=None), '422 the input "text" has an element at 0 that is not a string.'),
    (message(b"", data=[["ok"]], parameters=None), "has an element at 0 that is not a string."),
    (message(b"", data="ok", parameters=None), "422 inputs[0].data must be a list or null, not a string."),
    (message(OK, data=["ok"], parameters=None), "422 the body ends with 6 bytes that belong to no input."),
    (message(OK, parameters={"shared_memory_region": "r"}), "is in shared memory, which this service does not read"),
    (message(OK, parameters={"content_type": "base64"}), "has an unknown content_type"),
    ((message(OK)[0], None), "400 the body is not JSON: Extra data at character"),
    ((message(OK)[0], "9" * 5000), "422 the header Inference-Header-Content-Length is '999"),
    ((message(OK)[0], "-1"), "422 the header Inference-Header-Content-Length is '-1', but must be the length"),
    ((message(OK)[0], "١"), "422 the header Inference-Header-Content-Length is"),
    ((message(OK)[0], "10000"), "at the start of the body, which has"),
    ((message(OK)[0], "5"), "400 the body is not JSON: "),
    ((message(OK)[0], "0"), "400 the JSON at the start of the body is missing."),
    ((b"", None), "400 the JSON at the start of the body is missing."),
    ((b"[]", None), "422 the body"),
    ((b"{}", None), "422 inputs is missing."),
    ((b'{"inputs": []}', None), "422 inputs"),
    ((json.dumps({"inputs": TWICE}).encode(), None), '422 the input "text" is there twice.'),
    ((json.dumps({"inputs": TWICE * 9}).encode(), None), "422 inputs"),
    ((json.dumps({"id": 3, "inputs": TWICE[:1]}).encode(), None), "422 id must be a string or null"),
    ((b'{"id": "\\ud800", "inputs": []}', None), "400 id holds half of a surrogate pair"),
    ((b'{"id": "\xff", "inputs": []}', None), "400 the body is not UTF-8 at byte 8."),
    ((b"[" * 10_000, None), "400 the body is nested too deeply."),
    ((b'{"inputs": [{"shape": [' + b"9" * 5000 + b"]}]}", None), "4"),
]  # fmt: skip


@pytest.mark.parametrize(("sent", "sentence"), MALFORMED)
def test_a_malformed_message_is_refused_in_one_sentence(sent: tuple[bytes, str | None], sentence: str) -> None:
    with pytest.raises(Problem) as refused:
        read_request(*sent)
    said = f"{refused.value.status} {refused.value.detail}"
    assert sentence in said
    assert said.endswith(".")
    assert "\n" not in said


@st.composite
def damaged(draw: st.DrawFn) -> tuple[bytes, str | None]:
    """A good message with some of its bytes changed, cut out or put in, and a header that may have moved as well."""
    texts = [text.encode() for text in draw(st.lists(words, min_size=1, max_size=4))]
    body, length = message(packed(*texts), [len(texts)])
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        end = draw(st.integers(start, min(len(body), start + 4)))
        body = body[:start] + draw(st.binary(max_size=4)) + body[end:]
    moved = st.integers(-3, 3).map(lambda by: str(int(length) + by))
    return body, draw(st.just(length) | moved | st.none() | st.text(max_size=4))


@settings(max_examples=200, deadline=None)
@given(sent=damaged() | st.tuples(st.binary(max_size=200), st.none() | st.integers(0, 200).map(str)))
def test_no_bytes_whatever_raise_anything_but_a_problem(sent: tuple[bytes, str | None]) -> None:
    refused: Problem | None = None
    try:
        request, texts = read_request(*sent)
    except Problem as problem:
        refused = problem
    if refused:
        assert refused.status in (400, 413, 422)
        assert refused.detail.endswith(".")
    else:
        assert [len(texts[tensor.name]) for tensor in request.inputs] == [tensor.shape[0] for tensor in request.inputs]
        assert all(isinstance(text, str) for listed in texts.values() for text in listed)
