"""Which answers count as equal to those of an offline run."""

from pathlib import Path

import pytest

from benchmarks.serving.questions import classified, filled, tolerance_of
from model_build.bundle import Bundle, find_bundles

MODELS = Path(__file__).parents[3] / "models"


@pytest.fixture(scope="module")
def bundles() -> dict[bool, Bundle]:
    """An embedded bundle in int8 and one that is not, by whether it is."""
    return {"quantization" in each.manifest.provenance: each for each in find_bundles(MODELS)}


def test_int8_may_differ_by_a_rounding_and_more_in_another_runtime(bundles: dict[bool, Bundle]) -> None:
    within, across = (tolerance_of(bundles[True], runtime) for runtime in ("onnxruntime", "auto"))
    assert 1e-4 < within < across < 0.1


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "auto"])
def test_fp32_is_equal_to_a_ten_thousandth_in_every_runtime(bundles: dict[bool, Bundle], runtime: str) -> None:
    assert tolerance_of(bundles[False], runtime) == 1e-4


@pytest.mark.parametrize(("score", "equal"), [(0.7009, True), (0.7011, False)])
def test_a_score_beyond_the_tolerance_is_wrong(score: float, equal: bool) -> None:
    labels = {"results": [{"labels": [{"label": "good", "score": score}]}]}
    assert (classified([{"good": 0.7}], 1e-3)(labels) is None) == equal
    masks = {"results": [{"masks": [[{"token": "好", "score": score}]]}]}
    assert (filled([[("好", 0.7)]], 1e-3)(masks) is None) == equal
