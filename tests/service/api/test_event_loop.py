"""What one request may cost: others are answered while it is in work, and too much is refused before it is begun."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from tests.service.stand_in import CHARACTERS, StandInEngine, application, client_of

Built = tuple[FastAPI, dict[str, StandInEngine]]


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return application(tmp_path, {"characters": "fill-mask"})


@pytest.fixture
async def client(built: Built) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(built[0]) as opened:
        yield opened


def words(count: int) -> list[str]:
    """Targets of two tokens, no two of which begin alike more often than they must."""
    characters = list(dict.fromkeys(CHARACTERS))
    return ["".join(pair) for pair, _ in zip(itertools.product(characters, characters), range(count), strict=False)]


async def healths_beside(client: httpx.AsyncClient, path: str, body: object) -> tuple[httpx.Response, int]:
    """The answer to a request, and how many questions for the health were answered beside it."""
    asked = asyncio.create_task(client.post(path, json=body))
    answered = 0
    while not asked.done():
        answered += (await client.get("/health/live")).status_code == 200
        await asyncio.sleep(0)  # without a socket a request is answered without giving way
    return await asked, answered


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": ["今[MASK]好"] * 60, "targets": words(500)[::20]},
        {"inputs": ["今[MASK][MASK]好"] * 60, "strategy": "joint", "top_k": 15},
        {"inputs": ["今[MASK]好"] * 60, "targets": list(dict.fromkeys(CHARACTERS))},
    ],
    ids=["long targets", "joint", "targets"],
)
async def test_health_is_answered_while_masks_are_filled(client: httpx.AsyncClient, body: object) -> None:
    answer, healths = await healths_beside(client, "/fill-mask", body)
    assert answer.status_code == 200, answer.text
    assert healths > 60


async def test_targets_that_need_too_many_texts_are_refused_before_a_text_is_run(
    built: Built, client: httpx.AsyncClient
) -> None:
    # 24 ways to begin, so 25 texts for each of 125 masks; the first 125 of them could have been run.
    body = {"inputs": ["[MASK]" * 25] * 5, "targets": words(480)}
    refused = await client.post("/fill-mask", json=body)
    assert refused.status_code == 413
    assert "more than 2048 texts" in refused.json()["detail"]
    assert not built[1]["characters"].items


def infer(texts: list[str], **parameters: object) -> dict[str, object]:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}
    return {"inputs": [tensor], "parameters": parameters}


async def test_an_answer_that_is_padded_to_megabytes_is_refused_before_a_text_is_run(
    built: Built, client: httpx.AsyncClient
) -> None:
    url = "/v2/models/characters/infer"
    texts = ["[MASK]" * 28, *["[MASK]"] * 255]
    refused = await client.post(url, json=infer(texts, top_k=15))
    assert refused.status_code == 413
    assert "the answer would have" in refused.json()["error"]
    assert not built[1]["characters"].items
    assert (await client.post(url, json=infer(texts, top_k=2))).status_code == 200
    # Unpadded it is small enough.
    assert (await client.post("/fill-mask", json={"inputs": texts, "top_k": 15})).status_code == 200


async def test_many_short_candidates_are_as_large_an_answer_as_a_few_long_ones(client: httpx.AsyncClient) -> None:
    targets = list(dict.fromkeys(CHARACTERS))
    body = {"inputs": ["[MASK]" * 20] * 250, "targets": targets, "top_k": len(targets)}
    refused = await client.post("/fill-mask", json=body)
    assert refused.status_code == 413
    assert "the answer would have" in refused.json()["detail"]
    assert (await client.post("/fill-mask", json={**body, "top_k": 2})).status_code == 200
