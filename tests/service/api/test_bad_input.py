"""Every bad input gets a status of its own and one sentence, and never a 500."""

import gzip
import json
import math
import subprocess
import sys

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.service.conftest import ROOT, Service

HEADERS = {"Content-Type": "application/json"}


def problem(answer: httpx.Response, status: int, code: str) -> str:
    """Checks the document's form; returns its sentence."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["code"] == code
    assert document["status"] == status
    assert document["request_id"] == answer.headers["x-request-id"]
    assert document["title"]
    assert document["detail"].endswith(".")
    assert "\n" not in document["detail"]
    return str(document["detail"])


@pytest.mark.parametrize(
    ("endpoint", "body", "status", "code", "sentence"),
    [
        ("classify", {"inputs": ""}, 422, "invalid_input", "inputs[0].text must not be empty or blank."),
        ("classify", {"inputs": ["好", " \n"]}, 422, "invalid_input", "inputs[1].text must not be empty or blank."),
        ("classify", {"text": "好", "text_pair": ""}, 422, "invalid_input", "text_pair must not be"),
        ("classify", {"inputs": []}, 422, "invalid_input", "inputs must not be an empty list."),
        ("classify", {}, 422, "invalid_input", "must have either inputs or text"),
        ("classify", {"inputs": "好", "text": "好"}, 422, "invalid_input", "must have either inputs or text"),
        ("classify", {"inputs": "好", "text_pair": "好"}, 422, "invalid_input", "text_pair at the top without text"),
        ("classify", {"inputs": 3}, 422, "invalid_input", "inputs must be a string, an object"),
        (
            "classify",
            {"inputs": [["好"]]},
            422,
            "invalid_input",
            "inputs[0] must be a string or an object, not a list.",
        ),
        ("classify", {"inputs": None}, 422, "invalid_input", "inputs must be a string, an object"),
        (
            "classify",
            {"inputs": ["好", {"text": 3}]},
            422,
            "invalid_input",
            "inputs[1].text must be a string",
        ),
        ("classify", {"inputs": {"text_pair": "好"}}, 422, "invalid_input", "inputs.text is missing."),
        (
            "classify",
            {"inputs": "好", "topk": 3},
            422,
            "invalid_input",
            "(did you mean top_k?).",
        ),
        ("classify", {"inputs": "好", "top_k": 0}, 422, "invalid_input", "top_k"),
        ("classify", {"inputs": "好", "top_k": "3"}, 422, "invalid_input", "top_k"),
        ("classify", {"inputs": "好", "top_k": True}, 422, "invalid_input", "top_k"),
        ("classify", {"inputs": "好", "top_k": 10**30}, 200, "", ""),
        ("classify", {"inputs": "好", "timeout_ms": -1}, 422, "invalid_input", "timeout_ms"),
        ("classify", {"inputs": "好", "truncation": "windows"}, 422, "invalid_input", "truncation"),
        ("classify", {"inputs": "好" * 2000}, 422, "invalid_input", "more than 16 windows of 64 hold"),
        (
            "classify",
            {"text": "好" * 99, "text_pair": "好" * 60},
            422,
            "invalid_input",
            "text_pair has 60 tokens and leaves no room for text",
        ),
        ("classify", {"inputs": "好", "priority": "high"}, 422, "invalid_input", "priority"),
        ("fill-mask", {"inputs": "[MASK]", "strategy": "beam"}, 422, "invalid_input", "strategy"),
        ("classify", {"inputs": "好", "model": "absent"}, 404, "model_not_found", "there is no model 'absent'"),
        ("classify", {"inputs": "好", "model": "characters"}, 409, "wrong_task", "is for fill-mask, not for classify"),
        (
            "fill-mask",
            {"inputs": "[MASK]", "model": "reviews"},
            409,
            "wrong_task",
            "is for classify, not for fill-mask",
        ),
        ("fill-mask", {"inputs": ["[MASK]", "好"]}, 422, "invalid_input", "inputs[1] has no mask token"),
        ("fill-mask", {"inputs": "[MASK]" * 4}, 422, "invalid_input", "has 4 masks, but at most 3"),
        ("fill-mask", {"inputs": "[MASK]", "top_k": 31}, 422, "invalid_input", "at most 25 candidates"),
        ("fill-mask", {"inputs": "[MASK]", "targets": []}, 422, "invalid_input", "targets"),
        (
            "fill-mask",
            {"inputs": "[MASK]", "targets": ["好", "今鑫"]},
            422,
            "invalid_input",
            "targets[1] must consist of tokens of the vocabulary, but '今鑫' is 今 [UNK]",
        ),
        ("fill-mask", {"inputs": "[MASK]", "targets": ["鑫"]}, 422, "invalid_input", "'鑫' is [UNK]"),
        ("fill-mask", {"inputs": "[MASK]", "targets": [""]}, 422, "invalid_input", "is nothing"),
        (
            "classify",
            {"inputs": "好" * 63, "truncation": "error"},
            422,
            "invalid_input",
            "inputs[0] has 65 tokens, but reviews takes at most 64",
        ),
        (
            "fill-mask",
            {"inputs": "好" * 80 + "[MASK]", "truncation": "truncate"},
            422,
            "invalid_input",
            "inputs[0] loses a mask to truncation",
        ),
        ("classify", {"inputs": ["好"] * 41}, 413, "too_large", "has 41 inputs, but at most 40"),
        ("classify", ["好"], 422, "invalid_input", "the body must be a JSON object"),
        ("absent", {}, 404, "not_found", "there is nothing at /absent"),
    ],
)
def test_a_bad_field_is_named_in_one_sentence(
    service: Service, endpoint: str, body: object, status: int, code: str, sentence: str
) -> None:
    answer = httpx.post(f"{service.url}/{endpoint}", json=body)
    if status == 200:
        assert answer.status_code == 200
    else:
        assert sentence in problem(answer, status, code)


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b'{"inputs": "\xe5\xa5', 400, "invalid_json"),
        (b'{"inputs": "\xff\xfe"}', 400, "invalid_json"),
        (b'{"inputs": ', 400, "invalid_json"),
        (b"", 422, "invalid_input"),
        (b"[" * 10_000, 400, "invalid_json"),
        (b'{"inputs": "\\ud800"}', 422, "invalid_input"),
        (b'{"inputs": "\xe5\xa5\xbd", "top_k": NaN}', 422, "invalid_input"),
        (b'{"inputs": NaN}', 422, "invalid_input"),
        (b'{"inputs": "\xe5\xa5\xbd", "model": "\\ud800"}', 422, "invalid_input"),
    ],
    ids=["cut UTF-8", "not UTF-8", "cut JSON", "empty", "deep", "half a surrogate", "NaN", "NaN input", "odd model"],
)
def test_bytes_that_are_no_request_are_refused(service: Service, content: bytes, status: int, code: str) -> None:
    problem(httpx.post(f"{service.url}/classify", content=content, headers=HEADERS), status, code)


def test_a_body_of_ten_megabytes_is_refused_whether_its_length_is_declared_or_not(service: Service) -> None:
    body = b'{"inputs": "' + b"a" * (10 << 20) + b'"}'

    def chunks() -> object:
        for start in range(0, len(body), 1 << 16):
            yield body[start : start + (1 << 16)]

    for content in (body, chunks()):
        try:
            answer = httpx.post(f"{service.url}/classify", content=content, headers=HEADERS)  # type: ignore[arg-type]
        except httpx.WriteError:
            continue  # the service has answered and closed while the client was still writing
        assert "larger than" in problem(answer, 413, "too_large")


def test_wrong_methods_and_media_types_are_refused(service: Service) -> None:
    problem(httpx.get(f"{service.url}/classify"), 405, "method_not_allowed")
    plain = httpx.post(f"{service.url}/classify", content=b'{"inputs": "x"}', headers={"Content-Type": "text/plain"})
    assert "application/json" in problem(plain, 422, "invalid_input")


def test_a_compressed_body_is_refused_in_one_sentence_everywhere(service: Service) -> None:
    packed = gzip.compress(json.dumps({"inputs": "好"}).encode())
    for endpoint in ("classify", "fill-mask"):
        answer = httpx.post(
            f"{service.url}/{endpoint}", content=packed, headers={**HEADERS, "Content-Encoding": "gzip"}
        )
        assert "is sent as 'gzip'; send it uncompressed" in problem(answer, 415, "unsupported_encoding")
        assert answer.headers["accept-encoding"] == "identity"
    plain = {**HEADERS, "Content-Encoding": "identity"}
    assert httpx.post(f"{service.url}/classify", json={"inputs": "好"}, headers=plain).status_code == 200


def test_a_slash_too_many_is_no_redirect_to_an_address_that_a_proxy_does_not_have(service: Service) -> None:
    problem(httpx.post(f"{service.url}/classify/", json={"inputs": "好"}), 404, "not_found")


def test_balancers_may_probe_with_head(service: Service) -> None:
    for path in ("/health/live", "/health/ready"):
        answer = httpx.head(f"{service.url}{path}")
        assert (answer.status_code, answer.content) == (200, b"")


def test_control_characters_and_symbols_are_text_like_any_other(service: Service) -> None:
    for text in ("\x00\x00好", "好\u200b", "🙂", "ȾMASK", "[SEP][CLS][PAD]", "a" * 400):
        answer = httpx.post(f"{service.url}/classify", json={"inputs": text, "truncation": "truncate"})
        assert answer.status_code == 200, (text, answer.text)
        assert math.isclose(sum(label["score"] for label in answer.json()["results"][0]["labels"]), 1, abs_tol=1e-5)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("好[MASK]"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["text", "text_pair", "inputs", "model", "top_k", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)
bodies = st.fixed_dictionaries(
    {"inputs": json_values},
    optional={"top_k": json_values, "model": json_values, "targets": json_values, "truncation": json_values},
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=bodies | json_values, endpoint=st.sampled_from(["classify", "fill-mask"]))
def test_no_json_value_whatever_makes_the_service_fail(service: Service, body: object, endpoint: str) -> None:
    content = json.dumps(body).encode()
    answer = httpx.post(f"{service.url}/{endpoint}", content=content, headers=HEADERS)
    assert answer.status_code in (200, 404, 409, 413, 422), (body, answer.text)


def test_a_bad_request_spoils_no_other_request_of_the_same_batch(service: Service) -> None:
    with httpx.Client(base_url=service.url) as client:
        for _ in range(5):
            assert client.post("/classify", json={"inputs": "[PAD]" * 50}).status_code == 200
            assert client.post("/classify", json={"inputs": " "}).status_code == 422
            assert client.post("/classify", json={"inputs": "好"}).status_code == 200


def test_bodies_that_are_wrong_in_every_way_never_make_a_server_error_or_end_a_process() -> None:
    command = [sys.executable, "-m", "benchmarks.serving.fuzz_bodies", "--bodies", "3000", "--seed", "7"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr[-2000:]
    assert "3000 of 3000 bodies answered" in ended.stdout
