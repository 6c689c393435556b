"""Both endpoints over real HTTP, against real engine processes."""

import math
from pathlib import Path

import httpx
import pytest

from tests.service.conftest import Service, serving
from tests.service.tiny_bundles import PAIR_IDS, TOKENS


def classify(service: Service, body: object) -> dict:
    answer = httpx.post(f"{service.url}/classify", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def fill_mask(service: Service, body: object) -> dict:
    answer = httpx.post(f"{service.url}/fill-mask", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_text_gets_every_label_by_falling_probability(service: Service) -> None:
    answer = classify(service, {"inputs": "今天天气真好"})
    (result,) = answer["results"]
    scores = [label["score"] for label in result["labels"]]
    assert {label["label"] for label in result["labels"]} == {"差", "中", "好"}
    assert scores == sorted(scores, reverse=True)
    assert math.isclose(sum(scores), 1, abs_tol=1e-5)
    assert (answer["model"], answer["version"]) == ("reviews", "1")
    assert result["tokens"] == answer["usage"]["tokens"] == 8
    assert result["truncated"] is False


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": "我们去公园"},
        {"inputs": ["我们去公园"]},
        {"inputs": {"text": "我们去公园"}},
        {"inputs": [{"text": "我们去公园"}]},
        {"text": "我们去公园"},
        {"text": "我们去公园", "model": "reviews"},
    ],
)
def test_every_form_of_a_single_text_gives_the_same_answer(service: Service, body: object) -> None:
    expected = classify(service, {"inputs": "我们去公园"})["results"]
    got = classify(service, body)["results"]
    assert [label["label"] for label in got[0]["labels"]] == [label["label"] for label in expected[0]["labels"]]
    assert got[0]["labels"][0]["score"] == pytest.approx(expected[0]["labels"][0]["score"], abs=1e-5)


def test_a_list_gives_a_list_of_the_same_length_and_order_whatever_the_batch_holds(service: Service) -> None:
    texts = ["好" * length for length in (1, 40, 3, 62, 17, 2, 30)]
    together = classify(service, {"inputs": texts})["results"]
    assert [result["tokens"] for result in together] == [len(text) + 2 for text in texts]
    for text, result in zip(texts, together, strict=True):
        (alone,) = classify(service, {"inputs": text})["results"]
        for one, other in zip(alone["labels"], result["labels"], strict=True):
            assert one["label"] == other["label"]
            assert one["score"] == pytest.approx(other["score"], abs=1e-5)


def test_a_pair_is_another_input_than_its_texts_joined(service: Service) -> None:
    pair = classify(service, {"text": "今天", "text_pair": "很好"})
    joined = classify(service, {"text": "今天很好"})
    assert pair["results"][0]["tokens"] == joined["results"][0]["tokens"] + 1
    assert pair["results"][0]["labels"] != joined["results"][0]["labels"]


def test_top_k_limits_the_labels(service: Service) -> None:
    assert len(classify(service, {"inputs": "好", "top_k": 1})["results"][0]["labels"]) == 1


def test_a_long_text_is_read_in_windows_whose_probabilities_are_averaged(service: Service) -> None:
    text = "好" * 40 + "不" * 60
    whole = classify(service, {"inputs": text})["results"][0]
    assert (whole["windows"], whole["tokens"], whole["truncated"]) == (2, 128, False)
    parts = classify(service, {"inputs": [text[:62], text[38:]]})["results"]
    for place in range(2):
        label = whole["labels"][place]["label"]
        scores = [each["score"] for part in parts for each in part["labels"] if each["label"] == label]
        assert whole["labels"][place]["score"] == pytest.approx(sum(scores) / 2, abs=1e-5)


def test_a_mask_of_a_long_text_is_filled_in_the_window_around_it(service: Service) -> None:
    answer = fill_mask(service, {"inputs": "好" * 70 + "[MASK]" + "不" * 40})["results"][0]
    # Of the windows at tokens 0, 24 and 49 only the last is run: there the mask has 21 tokens before it and the end.
    assert (answer["windows"], answer["tokens"]) == (3, 64)
    alone = fill_mask(service, {"inputs": "好" * 21 + "[MASK]" + "不" * 40})["results"][0]
    for found, expected in zip(answer["masks"][0], alone["masks"][0], strict=True):
        assert found["token"] == expected["token"]
        assert found["score"] == pytest.approx(expected["score"], abs=1e-6)


def test_a_long_text_is_cut_when_asked_for_and_the_answer_says_so(service: Service) -> None:
    answer = classify(service, {"inputs": ["好" * 100, "好"], "truncation": "truncate"})
    assert [result["truncated"] for result in answer["results"]] == [True, False]
    assert answer["results"][0]["tokens"] == 64


def test_a_mask_gets_five_candidates_with_their_sequences(service: Service) -> None:
    answer = fill_mask(service, {"inputs": "今天天[MASK]真好"})
    (candidates,) = answer["results"][0]["masks"]
    assert len(candidates) == 5
    for candidate in candidates:
        assert TOKENS[candidate["token_id"]] == candidate["token"]
        assert candidate["sequence"] == f"今天天{candidate['token'].removeprefix('##')}真好"
    scores = [candidate["score"] for candidate in candidates]
    assert scores == sorted(scores, reverse=True)


def test_several_masks_of_several_texts_keep_their_places(service: Service) -> None:
    texts = ["[MASK]天", "我[MASK]去[MASK]园", {"text": "北京", "text_pair": "是[MASK]国"}]
    results = fill_mask(service, {"inputs": texts, "top_k": 2})["results"]
    assert [len(result["masks"]) for result in results] == [1, 2, 1]
    first, second = results[1]["masks"]
    assert first[0]["sequence"] == f"我{first[0]['token'].removeprefix('##')}去[MASK]园"
    assert second[0]["sequence"] == f"我[MASK]去{second[0]['token'].removeprefix('##')}园"
    assert results[2]["masks"][0][0]["sequence"].startswith("是")
    (alone,) = fill_mask(service, {"inputs": texts[0], "top_k": 2})["results"]
    assert alone["masks"][0][0]["token"] == results[0]["masks"][0][0]["token"]
    assert alone["masks"][0][0]["score"] == pytest.approx(results[0]["masks"][0][0]["score"], abs=1e-5)


def test_targets_are_scored_like_the_candidates_and_ranked(service: Service) -> None:
    best = fill_mask(service, {"inputs": "今天天[MASK]真好", "top_k": 3})["results"][0]["masks"][0]
    wanted = [best[2]["token"], best[0]["token"]]
    (targets,) = fill_mask(service, {"inputs": "今天天[MASK]真好", "targets": wanted})["results"][0]["masks"]
    assert [candidate["token"] for candidate in targets] == wanted[::-1]
    assert targets[0]["score"] == pytest.approx(best[0]["score"], abs=1e-6)


def test_no_special_token_is_ever_a_candidate(service: Service) -> None:
    (candidates,) = fill_mask(service, {"inputs": "[MASK]", "top_k": 25})["results"][0]["masks"]
    assert len(candidates) == 25
    assert not {"[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"} & {candidate["token"] for candidate in candidates}


def test_answers_carry_the_request_id_and_the_timings(service: Service) -> None:
    answer = httpx.post(f"{service.url}/classify", json={"text": "好"}, headers={"X-Request-ID": "caller-7"})
    assert answer.headers["x-request-id"] == "caller-7"
    timings = dict(part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
    assert list(timings) == ["tokenize", "queue", "inference", "total"]
    assert float(timings["total"]) >= float(timings["inference"]) > 0


def test_a_request_id_that_could_break_a_log_is_replaced(service: Service) -> None:
    for bad in ("x" * 129, "two words", ""):
        answer = httpx.get(f"{service.url}/health/live", headers={"X-Request-ID": bad})
        assert answer.headers["x-request-id"] not in ("", bad)


def test_models_and_health_describe_what_is_served(service: Service) -> None:
    listed = httpx.get(f"{service.url}/models").json()["models"]
    assert {model["name"]: model["task"] for model in listed} == {"reviews": "classify", "characters": "fill-mask"}
    one = httpx.get(f"{service.url}/models/reviews").json()
    assert one["labels"] == ["差", "中", "好"]
    assert one["max_length"] == 64
    assert one["ready"] is True
    assert httpx.get(f"{service.url}/health/ready").status_code == 200
    assert httpx.get(f"{service.url}/docs").status_code == 200
    assert "/fill-mask" in httpx.get(f"{service.url}/openapi.json").json()["paths"]


def test_metrics_count_requests_batches_and_failures(service: Service) -> None:
    def value(name: str) -> float:
        lines = httpx.get(f"{service.url}/metrics").text.splitlines()
        return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + " "))

    names = {
        "answered": 'ernie_requests_total{code="200",endpoint="/classify",model="reviews"}',
        "refused": 'ernie_request_failures_total{reason="invalid_input"}',
        "texts": 'ernie_batch_requests_sum{model="reviews"}',
        "tokens": 'ernie_batch_tokens_sum{model="reviews"}',
        "queued": 'ernie_queue_seconds_count{model="reviews"}',
        "truncated": 'ernie_truncated_total{model="reviews"}',
    }
    before = {key: value(name) for key, name in names.items()}
    classify(service, {"inputs": ["好", "好好", "好" * 99], "truncation": "truncate"})
    httpx.post(f"{service.url}/classify", json={"text": ""})
    grown = {key: value(name) - before[key] for key, name in names.items()}
    assert grown == {"answered": 1, "refused": 1, "texts": 3, "tokens": 3 + 4 + 64, "queued": 1, "truncated": 1}
    assert value('ernie_ready{model="reviews"}') == 1
    # Made at start, before anything of the kind has happened.
    assert value('ernie_engine_restarts_total{model="reviews"}') == 0
    assert value('ernie_requests_total{code="504",endpoint="/fill-mask",model="characters"}') == 0


def test_a_directory_exported_by_paddlenlp_is_served_as_it_is(paddlenlp_export: Path) -> None:
    import json

    import numpy as np

    logits = np.array(json.loads((paddlenlp_export / "logits.json").read_text()))
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    words = ["".join(TOKENS[token] for token in PAIR_IDS[0][start:stop]) for start, stop in ((1, 4), (5, 7))]
    second = "".join(TOKENS[token] for token in PAIR_IDS[1][1:3])
    with serving(paddlenlp_export / "reviews") as running:
        running.wait_ready()
        answer = classify(running, {"inputs": [{"text": words[0], "text_pair": words[1]}, second]})
    for row, result in zip(expected, answer["results"], strict=True):
        scores = {label["label"]: label["score"] for label in result["labels"]}
        assert [scores[f"LABEL_{index}"] for index in range(3)] == pytest.approx(row.tolist(), abs=1e-4)
