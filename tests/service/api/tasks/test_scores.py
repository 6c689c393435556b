"""The scores of classifiers that are not one softmax over their labels, through a real service."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from model_build.bundle import BundleError, open_bundle
from service.engine.tensors import Tensors
from service.messages.inference import Output
from tests.service.conftest import Service, serving
from tests.service.tiny_bundles import PAIR_IDS, TOKENS


@pytest.fixture(scope="module")
def running(exported_heads: Path) -> Iterator[Service]:
    with serving(exported_heads / "models") as started:
        started.wait_ready()
        yield started


def scores(running: Service, model: str, **fields: Any) -> list[dict[str, float]]:
    answer = httpx.post(f"{running.url}/classify", json={"model": model, "inputs": "房间很干净", **fields})
    assert answer.status_code == 200, answer.text
    return [{each["label"]: each["score"] for each in result["labels"]} for result in answer.json()["results"]]


def refusal(running: Service, model: str, **fields: Any) -> str:
    answer = httpx.post(f"{running.url}/classify", json={"model": model, "inputs": "房间很干净", **fields})
    assert answer.status_code == 422
    return str(answer.json()["detail"])


def test_a_multi_label_model_answers_a_sigmoid_for_each_label(running: Service) -> None:
    (found,) = scores(running, "topics")
    assert found == pytest.approx({"物流": 0.982, "质量": 0.982, "环境": 0.018}, abs=1e-3)


def test_only_labels_that_reach_the_threshold_are_answered(running: Service) -> None:
    assert [set(found) for found in scores(running, "topics", threshold=0.5)] == [{"物流", "质量"}]
    assert len(scores(running, "topics", threshold=0.5, top_k=1)[0]) == 1
    assert scores(running, "topics", threshold=1) == [{}]
    assert "threshold must be between 0 and 1" in refusal(running, "topics", threshold=50)


def test_raw_scores_are_the_logits(running: Service) -> None:
    (found,) = scores(running, "topics", raw_scores=True)
    assert found == pytest.approx({"物流": 4.0, "质量": 4.0, "环境": -4.0}, abs=1e-5)
    assert set(scores(running, "topics", raw_scores=True, threshold=3.5)[0]) == {"物流", "质量"}
    # A batch may have texts of both kinds; each gets its own scores.
    assert scores(running, "topics")[0]["物流"] == pytest.approx(0.982, abs=1e-3)


def test_a_model_with_one_output_answers_this_number(running: Service) -> None:
    for fields in ({}, {"raw_scores": True}):
        assert scores(running, "match", **fields) == [{"LABEL_0": pytest.approx(0.7, abs=1e-5)}]


def test_probabilities_of_the_graph_are_answered_as_they_are(running: Service, exported_heads: Path) -> None:
    expected = json.loads((exported_heads / "probabilities.json").read_text())
    first, second = ("".join(TOKENS[token] for token in PAIR_IDS[0][part]) for part in (slice(1, 4), slice(5, 7)))
    pair = {"text": first, "text_pair": second}
    (found,) = scores(running, "softmaxed", inputs=[pair])
    assert [found["LABEL_0"], found["LABEL_1"]] == pytest.approx(expected[0], abs=1e-5)
    assert "ends in a softmax: it has no logits" in refusal(running, "softmaxed", raw_scores=True)
    assert sum("ends in a softmax: its outputs are the scores" in line for line in running.log) == 1


def test_the_models_say_what_their_scores_are(running: Service) -> None:
    models = httpx.get(f"{running.url}/models").json()["models"]
    kinds = {each["name"]: each["scores"] for each in models}
    assert kinds == {"topics": "sigmoid", "match": "raw", "softmaxed": "softmax"}


def test_rows_of_tensors_are_filled_where_fewer_labels_reach_the_threshold(running: Service) -> None:
    text = {"name": "text", "datatype": "BYTES", "shape": [2], "data": ["房间很干净", "房间"]}
    for threshold, shape in ((0.5, [2, 2]), (0.99, [2, 0])):
        body = {"inputs": [text], "parameters": {"threshold": threshold}}
        answer = httpx.post(f"{running.url}/v2/models/topics/infer", json=body).json()
        labels = next(each for each in answer["outputs"] if each["name"] == "labels")
        assert labels["shape"] == shape
        assert set(labels["data"]) == ({"物流", "质量"} if shape[1] else set())


def test_an_export_with_fewer_labels_than_classes_is_refused(exported_heads: Path, tmp_path: Path) -> None:
    export = tmp_path / "topics"
    export.mkdir()
    for path in (exported_heads / "models" / "topics").iterdir():
        (export / path.name).write_bytes(path.read_bytes())
    (export / "id2label.json").write_text('{"0": "差评", "1": "好评"}', encoding="utf-8")
    with pytest.raises(BundleError, match="has 2 labels, but its graph 3 classes"):
        Tensors(open_bundle(export)).check_labels(Output(scores=np.zeros(3).tolist()))
