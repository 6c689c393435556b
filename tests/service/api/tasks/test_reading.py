"""What the service reads of a text: characters that are removed, unknown tokens, special tokens, long pairs."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from tests.service.stand_in import TOKENS, StandInEngine, application, client_of

MODELS = {"reviews": "classify", "characters": "fill-mask"}
NOTHING = ["\u200b\u200b", "\ufeff", "\ufffd", "\u202e", "\ue000", "\x01", "\u0301", " \u2028\u200d\t"]
PAD, CLS, SEP, MASK, UNK = range(5)
Built = tuple[FastAPI, dict[str, StandInEngine]]


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return application(tmp_path, MODELS)  # type: ignore[arg-type]


@pytest.fixture
async def client(built: Built) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(built[0]) as opened:
        yield opened


@pytest.fixture
def engines(built: Built) -> dict[str, StandInEngine]:
    return built[1]


@pytest.mark.parametrize("text", NOTHING)
async def test_a_text_without_a_token_is_refused_and_named(client: httpx.AsyncClient, text: str) -> None:
    good = "今天"
    for path, body, name in (
        ("/classify", {"inputs": text}, "inputs[0].text"),
        ("/classify", {"inputs": [good, text]}, "inputs[1].text"),
        ("/classify", {"text": good, "text_pair": text}, "inputs[0].text_pair"),
        ("/classify", {"text": text, "text_pair": good}, "inputs[0].text"),
        ("/fill-mask", {"text": "[MASK]", "text_pair": text}, "inputs[0].text_pair"),
        ("/tokenize", {"inputs": [good, text], "model": "reviews"}, "inputs[1].text"),
        (
            "/v2/models/reviews/infer",
            {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [2], "data": [good, text]}]},
            "inputs[1].text",
        ),
    ):
        answer = await client.post(path, json=body)
        assert answer.status_code in (400, 422), answer.text
        said = answer.json()
        assert name in said.get("detail", said.get("error")), said


async def test_unknown_tokens_are_counted_in_answers_and_metrics(client: httpx.AsyncClient) -> None:
    texts = ["今天鑫", "龘靐齉", "今天", "鑫" * 100]
    answer = (await client.post("/classify", json={"inputs": texts})).json()
    assert [result["unknown"] for result in answer["results"]] == [1, 3, 0, 100]
    filled = (await client.post("/fill-mask", json={"inputs": "鑫[MASK]"})).json()
    assert [result["unknown"] for result in filled["results"]] == [1]
    joint = {"inputs": "鑫[MASK]+", "strategy": "joint", "span": 3}
    assert (await client.post("/fill-mask", json=joint)).json()["results"][0]["unknown"] == 1
    cut = {"inputs": "鑫" * 100, "truncation": "truncate"}
    assert (await client.post("/classify", json=cut)).json()["results"][0]["unknown"] == 30
    tensors = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["鑫今"]}]}
    outputs = (await client.post("/v2/models/reviews/infer", json=tensors)).json()["outputs"]
    assert {each["name"]: each["data"] for each in outputs}["unknown"] == [1]
    metrics = (await client.get("/metrics")).text
    counted = dict(re.findall(r'ernie_unknown_tokens_total\{model="(\w+)"\} (\S+)', metrics))
    assert counted == {"reviews": "135.0", "characters": "2.0"}


async def test_special_tokens_in_a_text_are_plain_text_unless_asked_for(
    client: httpx.AsyncClient, engines: dict[str, StandInEngine]
) -> None:
    async def ids(path: str, text: str, **more: object) -> list[int]:
        engine = engines["reviews" if path == "/classify" else "characters"]
        engine.items.clear()
        assert (await client.post(path, json={"inputs": text, **more})).status_code == 200
        return engine.items[0].input_ids

    good = TOKENS.index("好") if "好" in TOKENS else TOKENS.index("今")
    text = f"{TOKENS[good]}[SEP]{TOKENS[good]}[PAD][MASK]"
    assert await ids("/classify", text) == [CLS, good, UNK, UNK, UNK, good, *[UNK] * 6, SEP]
    assert await ids("/classify", text, special_tokens=True) == [CLS, good, SEP, good, PAD, MASK, SEP]
    assert await ids("/fill-mask", text) == [CLS, good, UNK, UNK, UNK, good, UNK, UNK, UNK, MASK, SEP]
    assert await ids("/fill-mask", text, special_tokens=True) == [CLS, good, SEP, good, PAD, MASK, SEP]


async def test_a_plus_after_a_mask_is_a_plus_unless_masks_are_filled_jointly(
    client: httpx.AsyncClient, engines: dict[str, StandInEngine]
) -> None:
    answer = await client.post("/fill-mask", json={"inputs": "我[MASK]+是"})
    assert answer.status_code == 200
    (masks,) = answer.json()["results"][0]["masks"]
    assert masks[-1]["sequence"] == f"我{masks[-1]['token']}+是"
    assert engines["characters"].items[0].input_ids.count(UNK) == 1  # the plus, which the vocabulary lacks


async def test_the_longer_text_of_a_pair_is_read_in_windows_on_either_side(client: httpx.AsyncClient) -> None:
    short, long = "今天", "今" * 120
    answers = [
        (await client.post("/classify", json={"text": first, "text_pair": second})).json()["results"][0]
        for first, second in ((short, long), (long, short))
    ]
    assert answers[0]["windows"] > 1
    assert answers[0] == answers[1]


async def test_the_sentence_about_a_long_pair_names_what_leaves_no_room(client: httpx.AsyncClient) -> None:
    async def said(first: int, second: int) -> str:
        answer = await client.post("/classify", json={"text": "今" * first, "text_pair": "今" * second})
        assert answer.status_code == 422, answer.text
        detail: str = answer.json()["detail"]
        return detail

    assert "text_pair has 25 tokens and leaves no room for text: in a window of 32 tokens it would have 4" in (
        await said(40, 25)
    )
    assert "text has 25 tokens and leaves no room for text_pair" in await said(25, 40)
    assert (
        "inputs[0] is a pair of 250 and 13 tokens: a window of 32 tokens has room for 16 of text, "
        "so it needs 21 windows, but at most 16 are allowed"
    ) in await said(250, 13)


async def test_tokenize_shows_tokens_ids_and_offsets_of_the_text_as_sent(client: httpx.AsyncClient) -> None:
    body = {"inputs": ["OKay 今\u200b🙂[SEP]", {"text": "今", "text_pair": "天a"}], "model": "reviews"}
    answer = await client.post("/tokenize", json=body)
    assert answer.status_code == 200, answer.text
    document = answer.json()
    first, second = document["results"]
    assert (document["model"], document["version"], document["usage"]) == ("reviews", "1", {"tokens": 15})
    assert first["tokens"] == ["[CLS]", "ok", "##ay", "今", "[UNK]", "[UNK]", "[UNK]", "[UNK]", "[SEP]"]
    assert first["offsets"] == [None, [0, 2], [2, 4], [5, 6], [7, 8], [8, 9], [9, 12], [12, 13], None]
    assert first["token_ids"] == [TOKENS.index(token) for token in first["tokens"]]
    assert first["unknown"] == 4
    assert second["tokens"] == ["[CLS]", "今", "[SEP]", "天", "a", "[SEP]"]
    assert second["token_type_ids"] == [0, 0, 0, 1, 1, 1]
    assert second["offsets"] == [None, [0, 1], None, [0, 1], [1, 2], None]
    assert answer.headers["server-timing"].startswith("tokenize;dur=")
    metrics = (await client.get("/metrics")).text
    assert 'ernie_requests_total{code="200",endpoint="/tokenize",model="reviews"} 1.0' in metrics
    assert 'ernie_request_duration_seconds_count{model="reviews"} 0.0' in metrics


async def test_tokenize_reads_a_mask_as_the_task_of_the_model_does(client: httpx.AsyncClient) -> None:
    for model, special, expected in (
        ("reviews", False, [UNK, UNK, UNK]),
        ("reviews", True, [MASK]),
        ("characters", False, [MASK]),
    ):
        body = {"inputs": "[MASK]", "model": model, "special_tokens": special}
        answer = (await client.post("/tokenize", json=body)).json()
        assert answer["results"][0]["token_ids"][1:-1] == expected


async def test_tokenize_refuses_what_it_cannot_answer(client: httpx.AsyncClient) -> None:
    for body, status, said in (
        ({"inputs": "今"}, 422, "model is missing, and there are several: reviews, characters"),
        ({"inputs": "今", "model": "absent"}, 404, "there is no model 'absent'"),
        ({"inputs": "今" * 20_001, "model": "reviews"}, 413, "20001 characters, but at most 20000"),
        ({"inputs": "今", "model": "reviews", "top_k": 3}, 422, "top_k is not a field"),
    ):
        answer = await client.post("/tokenize", json=body)
        assert answer.status_code == status, answer.text
        assert said in answer.json()["detail"]
