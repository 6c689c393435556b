"""The Open Inference Protocol as tritonclient speaks it to a real service, and as it fails."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient.utils import InferenceServerException

from service.api.models.engine_link import EngineFailed
from tests.service.conftest import Service
from tests.service.stand_in import StandInEngine, application, client_of

TEXTS = ["今天天气真好", "房间很干净", "好"]


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(service.url.removeprefix("http://")) as opened:
        yield opened


def tensor(name: str, texts: list[str], binary: bool = True, shape: list[int] | None = None) -> triton.InferInput:
    shape = shape or [len(texts)]
    made = triton.InferInput(name, shape, "BYTES")
    made.set_data_from_numpy(np.array([text.encode() for text in texts], dtype=np.object_).reshape(shape), binary)
    return made


def strings(result: triton.InferResult, name: str) -> Any:
    """A BYTES output as nested lists of str, for tritonclient gives bytes or str as it got binary or JSON."""
    plain = np.vectorize(lambda each: each.decode() if isinstance(each, bytes) else each, otypes=[object])
    return plain(result.as_numpy(name)).tolist()


def native(service: Service, endpoint: str, body: object) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = httpx.post(f"{service.url}/{endpoint}", json=body).json()["results"]
    return results


def test_the_server_and_its_models_describe_themselves(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("reviews")
    assert client.is_model_ready("reviews", "1")
    assert not client.is_model_ready("reviews", "2")
    assert not client.is_model_ready("absent")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    about = client.get_model_metadata("characters", "1")
    assert (about["name"], about["versions"]) == ("characters", ["1"])
    assert {each["name"] for each in about["inputs"]} == {"text", "text_pair"}
    assert {each["name"] for each in about["outputs"]} == {
        "tokens",
        "scores",
        "sequences",
        "masks",
        "windows",
        "truncated",
        "unknown",
    }


def test_health_and_readiness_are_bodies_that_kserve_reads(service: Service) -> None:
    assert httpx.get(f"{service.url}/v2/health/live").json()["live"] is True
    assert httpx.get(f"{service.url}/v2/health/ready").json()["ready"] is True
    assert httpx.get(f"{service.url}/v2/models/reviews/ready").json() == {"name": "reviews", "ready": True}


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("shape", [[3], [3, 1]])
def test_labels_and_scores_are_those_of_classify(
    service: Service, client: triton.InferenceServerClient, binary: bool, shape: list[int]
) -> None:
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("labels", "scores", "truncated")]
    result = client.infer("reviews", [tensor("text", TEXTS, binary, shape)], outputs=outputs, request_id="one")
    expected = native(service, "classify", {"inputs": TEXTS})
    assert strings(result, "labels") == [[each["label"] for each in one["labels"]] for one in expected]
    scores = [[each["score"] for each in one["labels"]] for one in expected]
    np.testing.assert_allclose(result.as_numpy("scores"), scores, atol=1e-5)
    assert result.as_numpy("scores").dtype == np.float32
    assert result.as_numpy("truncated").tolist() == [False] * 3
    answer = result.get_response()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("reviews", "1", "one")


def test_tensors_go_both_ways_in_binary_unless_asked_otherwise(client: triton.InferenceServerClient) -> None:
    answer = client.infer("reviews", [tensor("text", TEXTS)]).get_response()
    assert all("binary_data_size" in each["parameters"] for each in answer["outputs"])
    assert "id" not in answer


def test_only_the_outputs_asked_for_come_each_in_its_form(client: triton.InferenceServerClient) -> None:
    outputs = [triton.InferRequestedOutput("scores", binary_data=False), triton.InferRequestedOutput("labels")]
    result = client.infer("reviews", [tensor("text", TEXTS)], outputs=outputs, parameters={"top_k": 1})
    scores, labels = result.get_response()["outputs"]
    assert (scores["name"], scores["shape"], len(scores["data"])) == ("scores", [3, 1], 3)
    assert (labels["name"], labels["shape"], "data" in labels) == ("labels", [3, 1], False)
    assert result.as_numpy("truncated") is None


def test_a_pair_is_sent_as_a_second_input(service: Service, client: triton.InferenceServerClient) -> None:
    result = client.infer("reviews", [tensor("text", ["今天"]), tensor("text_pair", ["很好"], binary=False)])
    (expected,) = native(service, "classify", {"text": "今天", "text_pair": "很好"})
    np.testing.assert_allclose(result.as_numpy("scores")[0], [each["score"] for each in expected["labels"]], atol=1e-5)


def test_masks_are_filled_as_by_fill_mask_and_a_row_with_fewer_of_them_is_filled_up(
    service: Service, client: triton.InferenceServerClient
) -> None:
    texts = ["今天[MASK]气真[MASK]", "很[MASK]"]
    result = client.infer("characters", [tensor("text", texts)], parameters={"top_k": 3})
    expected = native(service, "fill-mask", {"inputs": texts, "top_k": 3})
    assert result.as_numpy("masks").tolist() == [2, 1]
    assert result.as_numpy("scores").shape == (2, 2, 3)
    for row, one in enumerate(expected):
        for column, candidates in enumerate(one["masks"]):
            assert strings(result, "tokens")[row][column] == [each["token"] for each in candidates]
            assert strings(result, "sequences")[row][column] == [each["sequence"] for each in candidates]
            np.testing.assert_allclose(
                result.as_numpy("scores")[row, column], [each["score"] for each in candidates], atol=1e-5
            )
    assert strings(result, "tokens")[1][1] == ["", "", ""]
    assert result.as_numpy("scores")[1, 1].tolist() == [0, 0, 0]


def test_masks_are_filled_together_where_the_strategy_says_so(client: triton.InferenceServerClient) -> None:
    parameters = {"strategy": "joint", "top_k": 2}
    filled = client.infer("characters", [tensor("text", ["很[MASK][MASK]", "[MASK]好"])], parameters=parameters)
    assert filled.as_numpy("tokens").shape == filled.as_numpy("scores").shape == (2, 1, 2)
    assert filled.as_numpy("masks").tolist() == [1, 1]
    assert all(0 < score <= 1 for score in filled.as_numpy("scores").ravel())
    for text, (words,) in zip(("很{}", "{}好"), filled.as_numpy("tokens"), strict=True):
        row = 0 if text == "很{}" else 1
        shown = [each.decode() for each in filled.as_numpy("sequences")[row, 0]]
        assert shown == [text.format(word.decode()) for word in words]


def test_a_long_text_says_how_many_windows_it_was_read_in(client: triton.InferenceServerClient) -> None:
    read = client.infer("reviews", [tensor("text", ["好" * 100, "好"])])
    assert read.as_numpy("windows").tolist()[0] > 1
    assert read.as_numpy("windows").tolist()[1] == 1
    assert read.as_numpy("truncated").tolist() == [False, False]


def test_targets_and_truncation_are_parameters_of_the_request(client: triton.InferenceServerClient) -> None:
    filled = client.infer("characters", [tensor("text", ["很[MASK]"])], parameters={"targets": ["好", "天"]})
    assert sorted(strings(filled, "tokens")[0][0]) == sorted(["好", "天"])
    cut = client.infer("reviews", [tensor("text", ["好" * 100, "好"])], parameters={"truncation": "truncate"})
    assert cut.as_numpy("truncated").tolist() == [True, False]


@pytest.mark.parametrize(
    ("model", "texts", "request_", "status", "sentence"),
    [
        ("absent", TEXTS, {}, 404, "there is no model 'absent'; there is"),
        ("reviews", TEXTS, {"model_version": "2"}, 404, "the model 'reviews' is here in version 1, not in '2'."),
        ("reviews", ["好", " "], {}, 422, "inputs[1].text must not be empty or blank."),
        ("reviews", ["好"] * 41, {}, 413, "has 41 inputs, but at most 40"),
        (
            "reviews",
            ["好" * 63],
            {"parameters": {"truncation": "error"}},
            422,
            "inputs[0] has 65 tokens, but reviews takes at most 64",
        ),
        ("characters", ["好"], {}, 422, "inputs[0] has no mask token"),
        ("characters", ["[MASK]"], {"parameters": {"top_k": 31}}, 422, "at most 25 candidates"),
        ("reviews", TEXTS, {"parameters": {"top_k": 0}}, 422, "parameters.top_k must be a whole number of at least 1."),
        (
            "reviews",
            TEXTS,
            {"parameters": {"topk": 2}},
            422,
            "there is no parameter 'topk' for classify; there",
        ),
        ("reviews", TEXTS, {"parameters": {"targets": ["好"]}}, 422, "there is no parameter 'targets' for classify"),
        ("reviews", TEXTS, {"parameters": {"inputs": "好"}}, 422, "there is no parameter 'inputs'"),
        ("reviews", TEXTS, {"timeout": -3}, 422, "parameters.timeout must be a whole number of microseconds above 0."),
        ("reviews", TEXTS, {"outputs": [triton.InferRequestedOutput("logits")]}, 422, "there is no output 'logits'"),
        (
            "reviews",
            TEXTS,
            {"outputs": [triton.InferRequestedOutput("labels")] * 2},
            422,
            "the output 'labels' is asked for twice.",
        ),
        (
            "reviews",
            TEXTS,
            {"outputs": [triton.InferRequestedOutput("labels", class_count=2)]},
            422,
            "the classification extension is not supported",
        ),
        ("reviews", TEXTS, {"request_compression_algorithm": "gzip"}, 415, "send it uncompressed."),
    ],
)
def test_what_cannot_be_done_is_an_error_that_tritonclient_raises_with_its_sentence(
    client: triton.InferenceServerClient, model: str, texts: list[str], request_: Any, status: int, sentence: str
) -> None:
    with pytest.raises(InferenceServerException) as raised:
        client.infer(model, [tensor("text", texts)], **request_)
    assert raised.value.status() == str(status)
    assert sentence in raised.value.message()


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ([tensor("TEXT", ["好"])], "there is no input 'TEXT'; there is text, text_pair."),
        ([tensor("text_pair", ["好"])], 'the input "text" is missing.'),
        ([tensor("text", ["好"]), tensor("text_pair", ["好", "好"])], "text has 1 elements and text_pair 2."),
    ],
)
def test_inputs_are_those_of_the_metadata(
    client: triton.InferenceServerClient, inputs: list[triton.InferInput], sentence: str
) -> None:
    with pytest.raises(InferenceServerException, match=sentence):
        client.infer("reviews", inputs)


def test_malformed_bytes_over_a_socket_are_refused_as_the_protocol_has_it(service: Service) -> None:
    raw = struct.pack("<I", 1 << 31) + b"ok"
    described = {"name": "text", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [described]}).encode()
    for length in (str(len(head)), str(len(head) - 1), str(1 << 40), "-5", "x"):
        answer = httpx.post(
            f"{service.url}/v2/models/reviews/infer",
            content=head + raw,
            headers={"Inference-Header-Content-Length": length},
        )
        assert answer.status_code in (400, 422)
        assert list(answer.json()) == ["error"]
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-request-id"]


def test_requests_are_counted_and_timed_like_those_of_the_other_endpoints(service: Service) -> None:
    def counted(code: int) -> float:
        name = f'ernie_requests_total{{code="{code}",endpoint="/v2/models/{{name}}/infer",model="reviews"}} '
        text = httpx.get(f"{service.url}/metrics").text
        return float(next(line for line in text.splitlines() if line.startswith(name)).removeprefix(name))

    before = counted(200), counted(422)
    body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["好"]}]}
    answer = httpx.post(f"{service.url}/v2/models/reviews/versions/1/infer", json=body)
    assert answer.status_code == 200
    assert "inference;dur=" in answer.headers["server-timing"]
    assert httpx.post(f"{service.url}/v2/models/reviews/infer", json={}).status_code == 422
    assert (counted(200), counted(422)) == (before[0] + 1, before[1] + 1)


# What depends on timing or on failure, over stand-in engines.

BODY = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["今天"]}]}
INFER = "/v2/models/reviews/infer"


@pytest.fixture
def built(tmp_path: Path) -> tuple[FastAPI, dict[str, StandInEngine]]:
    return application(tmp_path, {"reviews": "classify"}, max_queue_requests=1, max_body_bytes=1000)


@pytest.fixture
def both(tmp_path: Path) -> tuple[FastAPI, dict[str, StandInEngine]]:
    return application(tmp_path, {"reviews": "classify", "characters": "fill-mask"})


@pytest.fixture
async def local(built: tuple[FastAPI, dict[str, StandInEngine]]) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(built[0]) as opened:
        yield opened


def error(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    (sentence,) = answer.json().values()
    return str(sentence)


async def test_admission_and_deadlines_are_shared_with_the_other_endpoints(
    built: tuple[FastAPI, dict[str, StandInEngine]], local: httpx.AsyncClient
) -> None:
    engine = built[1]["reviews"]
    engine.hold.clear()
    held = asyncio.create_task(local.post("/classify", json={"text": "今天"}))
    await engine.taken.wait()
    refused = await local.post(INFER, json=BODY)
    assert "try again later" in error(refused, 429)
    assert int(refused.headers["retry-after"]) >= 1
    engine.hold.set()
    assert (await held).status_code == 200
    engine.hold.clear()
    late = await local.post(INFER, json={**BODY, "parameters": {"timeout": 20_000}})
    assert "time ran out" in error(late, 504)
    assert engine.cancelled.is_set()


async def test_failures_of_the_engine_and_of_the_service_keep_their_status(
    built: tuple[FastAPI, dict[str, StandInEngine]], local: httpx.AsyncClient
) -> None:
    app, engines = built
    engines["reviews"].failure = EngineFailed("engine_failed", "the engine stopped while it had this request.")
    failed = await local.post(INFER, json=BODY)
    assert "the engine stopped" in error(failed, 503)
    assert int(failed.headers["retry-after"]) >= 1
    engines["reviews"].failure = KeyError("a defect")
    assert "a defect" not in error(await local.post(INFER, json=BODY), 500)
    engines["reviews"].ready = None
    for path in ("/v2/health/ready", "/v2/models/reviews/ready"):
        assert "is starting" in error(await local.get(path), 503)
    app.state.draining = True
    assert "shutting down" in error(await local.get("/v2/health/ready"), 503)
    assert (await local.get("/v2/health/live")).json() == {"live": True}


async def test_errors_before_any_route_have_the_form_of_the_protocol_too(local: httpx.AsyncClient) -> None:
    assert "larger than 1000 bytes" in error(await local.post(INFER, content=b" " * 1001), 413)
    assert "there is nothing at /v2/nothing" in error(await local.get("/v2/nothing"), 404)
    assert "GET is not allowed" in error(await local.get(INFER), 405)
    assert "POST is not allowed" in error(await local.post("/v2"), 405)
    assert "code" in (await local.get("/v2nd")).json()


async def test_priority_under_v2_may_be_a_number_as_triton_has_it(tmp_path: Path) -> None:
    app, engines = application(tmp_path, {"reviews": "classify"})
    got: list[str] = []
    answered = engines["reviews"].infer

    async def infer(items: object, deadline: float | None = None, priority: str = "interactive") -> object:
        got.append(priority)
        return await answered(items, deadline, priority)  # type: ignore[arg-type]

    engines["reviews"].infer = infer  # type: ignore[method-assign, assignment]
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["今天"]}
    async with client_of(app) as client:
        for priority in (0, 1, 2, "batch"):
            sent = {"inputs": [tensor], "parameters": {"priority": priority}}
            answer: httpx.Response = await client.post(INFER, json=sent)
            assert answer.status_code == 200, answer.text
        refused = await client.post(INFER, json={"inputs": [tensor], "parameters": {"priority": True}})
        assert refused.status_code == 422
    assert got == ["interactive", "interactive", "batch", "batch"]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["[MASK]", "", "\ud800", "BYTES"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["data", "x"]), inner, max_size=2),
    max_leaves=5,
)
PARAMETER_NAMES = ["top_k", "truncation", "priority", "timeout", "timeout_ms", "targets", "binary_data_output", "x"]
OUTPUT_NAMES = ["labels", "scores", "tokens", "truncated"]
OUTPUT_PARAMETERS = ["binary_data", "classification", "shared_memory_region"]


def either(good: object) -> st.SearchStrategy[object]:
    """Mostly what is right, so that what is wrong elsewhere is reached."""
    return st.one_of(st.just(good), st.just(good), st.just(good), values)


tensors = st.fixed_dictionaries(
    {"name": either("text"), "datatype": either("BYTES"), "shape": either([1]), "data": either(["今[MASK]"])},
    optional={"parameters": st.dictionaries(st.sampled_from(["binary_data_size", "content_type"]), values) | values},
)
outputs = st.fixed_dictionaries(
    {"name": st.sampled_from(OUTPUT_NAMES) | values},
    optional={"parameters": st.dictionaries(st.sampled_from(OUTPUT_PARAMETERS), values)},
)
requests = st.fixed_dictionaries(
    {"inputs": st.lists(tensors, min_size=1, max_size=2)},
    optional={
        "id": values,
        "parameters": st.dictionaries(st.sampled_from(PARAMETER_NAMES), values, max_size=3) | values,
        "outputs": st.lists(outputs, max_size=3) | values,
    },
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=requests | values)
async def test_no_json_value_whatever_is_answered_with_5xx(
    both: tuple[FastAPI, dict[str, StandInEngine]], body: object
) -> None:
    async with client_of(both[0]) as client:
        for model in ("reviews", "characters"):
            answer = await client.post(f"/v2/models/{model}/infer", content=json.dumps(body))
            assert answer.status_code in (200, 400, 413, 422, 504), answer.text
            if answer.status_code != 200:
                assert error(answer, answer.status_code).endswith(".")
