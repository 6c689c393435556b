"""The models that come with the repository: whole, small, and sensible on plain sentences."""

from pathlib import Path

import httpx
import pytest

from model_build.bundle import find_bundles, verify_bundle
from tests.service.conftest import ROOT, Service

MODELS = ROOT / "models"


def test_the_bundles_are_as_they_were_written_and_small() -> None:
    bundles = {bundle.manifest.name: bundle for bundle in find_bundles(MODELS)}
    assert set(bundles) == {"sentiment", "masked-lm"}
    for bundle in bundles.values():
        verify_bundle(bundle)
        assert bundle.manifest.evaluation
        assert bundle.manifest.provenance
        for graph in bundle.manifest.graphs:
            assert b".py" not in bundle.graph(graph)[0].read_bytes(), "no path of the machine that made it"
    assert set(bundles["masked-lm"].manifest.graphs) == {"paddle", "onnx"}
    assert bundles["sentiment"].manifest.provenance["quantization"]["precision"] == "int8"
    assert sum(path.stat().st_size for path in Path(MODELS).rglob("*") if path.is_file()) <= 30_000_000


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("房间很干净，服务也很周到，下次还会再来。", "positive"),
        ("质量太差了，用了两天就坏了，非常失望。", "negative"),
        ("价格便宜，送货快，孩子非常喜欢。", "positive"),
        ("前台态度恶劣，等了一个小时才办好入住。", "negative"),
    ],
)
def test_plain_reviews_are_told_apart(embedded: Service, text: str, label: str) -> None:
    answer = httpx.post(f"{embedded.url}/classify", json={"text": text}).json()
    best = answer["results"][0]["labels"][0]
    assert best["label"] == label
    assert best["score"] > 0.8


def test_the_log_says_which_runtime(embedded: Service) -> None:
    pytest.importorskip("openvino", reason="auto takes another runtime; the extra openvino brings this one")
    ready = [line for line in embedded.log if "is ready on" in line]
    assert len(ready) == 2
    assert all("is ready on openvino fp32" in line for line in ready)


@pytest.mark.parametrize(("text", "token"), [("他在大[MASK]里教书。", "学"), ("我[MASK]常喜欢这本书。", "非")])
def test_common_words_are_completed(embedded: Service, text: str, token: str) -> None:
    answer = httpx.post(f"{embedded.url}/fill-mask", json={"text": text}).json()
    assert token in [candidate["token"] for candidate in answer["results"][0]["masks"][0]]


def test_metrics_have_what_the_parent_counts_and_what_the_api_processes_count(embedded: Service) -> None:
    httpx.post(f"{embedded.url}/classify", json={"text": "房间很干净。"})
    metrics = httpx.get(f"{embedded.url}/metrics").text
    for name in ("inference_seconds", "batch_requests", "queue_seconds", "request_duration_seconds"):
        (line,) = [each for each in metrics.splitlines() if each.startswith(f'ernie_{name}_count{{model="sentiment"}}')]
        assert float(line.split()[-1]) > 0, name
