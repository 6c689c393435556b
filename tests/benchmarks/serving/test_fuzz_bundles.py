"""The fuzz over bundles: its verdicts, its defects, and a short run with a real service."""

import math
from pathlib import Path

import pytest

from benchmarks.serving import fuzz_bundles
from benchmarks.serving.fuzz_bundles import TEXTS, Case, make_case, refusal_of, wrong_scores, wrong_sentence
from model_build.bundle import find_bundles

ROOT = Path(__file__).parents[3]
LOGITS = [[1.0, -1.0]] * len(TEXTS)


def test_scores_are_right_under_the_labels_and_the_kind_of_scores_of_the_damaged_bundle() -> None:
    softmax = 1 / (1 + math.exp(-2))
    sigmoid = 1 / (1 + math.exp(-1))
    given = [{"a": softmax, "b": 1 - softmax}] * len(TEXTS)
    assert wrong_scores(given, LOGITS, {"labels": ["a", "b"]}) is None
    assert "has the labels" in (wrong_scores(given, LOGITS, {"labels": ["b", "c"]}) or "")
    assert "for b, not" in (wrong_scores(given, LOGITS, {"labels": ["b", "a"]}) or "")
    assert wrong_scores(given, LOGITS, {"labels": ["a", "b"], "scores": "sigmoid"})
    given = [{"LABEL_0": sigmoid, "LABEL_1": 1 - sigmoid}] * len(TEXTS)
    assert wrong_scores(given, LOGITS, {"labels": [], "scores": "sigmoid"}) is None
    assert wrong_scores([{"a": math.nan, "b": 0.1}] * len(TEXTS), LOGITS, {"labels": ["a", "b"]})


def test_a_refusal_is_one_sentence_and_is_found_by_the_folder_or_by_its_path() -> None:
    assert wrong_sentence("models/case-1/1 has 3 labels, but its graph 2 classes.") is None
    assert wrong_sentence("Traceback (most recent call last)")
    assert wrong_sentence("one line\nanother line")
    assert wrong_sentence("")
    case = Case(1, "field", Path("/models/case-1/1"))
    assert refusal_of(case, {"case-1/1": "a sentence."}) == "a sentence."
    assert refusal_of(case, {"x": "/models/case-1/1 has no graph."}) == "/models/case-1/1 has no graph."
    assert refusal_of(case, {"case-11/1": "of another case."}) is None


def test_every_kind_of_defect_changes_the_bundle_and_the_same_seed_makes_the_same_defects(tmp_path: Path) -> None:
    originals = {bundle.manifest.task: bundle.directory for bundle in find_bundles(ROOT / "models")}
    pairs = [
        [make_case(number, 3, tmp_path / run, originals["classify"], originals["fill-mask"]) for number in range(30)]
        for run in ("first", "second")
    ]
    assert {case.kind for case in pairs[0]} == set(fuzz_bundles.KINDS)
    for one, two in zip(*pairs, strict=True):
        assert one.kind == two.kind
        files = [
            {path.relative_to(case.folder): path.read_bytes() for path in case.folder.rglob("*") if path.is_file()}
            for case in (one, two)
        ]
        assert files[0] == files[1]


def test_a_short_run_finds_no_bundle_that_is_served_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_bundles, "CASES_PER_RELOAD", 4)
    counts, wrong = fuzz_bundles.fuzz(ROOT / "models", cases=4, seed=5, seconds=60.0)
    assert wrong == []
    assert sum(sum(counter.values()) for counter in counts.values()) == 4
