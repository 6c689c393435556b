"""Labels and scores are read from the files that users have, and files with errors are refused in one sentence."""

import json
from pathlib import Path
from typing import Any

import pytest

from model_build.labels import LabelError, labels_of_folder, scores_of_folder

THREE = ["差评", "中评", "好评"]


def labels(directory: Path, **config: Any) -> list[str]:
    return labels_of_folder(directory, config, "config.json")


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_id2label_json_names_the_classes_in_any_order(tmp_path: Path, mark: str, order: list[int]) -> None:
    names = {str(index): THREE[index] for index in order}
    (tmp_path / "id2label.json").write_text(mark + json.dumps(names, ensure_ascii=False), encoding="utf-8")
    assert labels(tmp_path, id2label={"0": "LABEL_0"}) == THREE


@pytest.mark.parametrize("name", ["labels.txt", "label_list.txt", "label.txt"])
@pytest.mark.parametrize("text", ["差评\n中评\n好评", "\ufeff差评\r\n中评\r\n好评\r\n\n"])
def test_a_label_file_has_one_label_on_each_line(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_bytes(text.encode())
    assert labels(tmp_path) == THREE


@pytest.mark.parametrize(
    "config",
    [
        {"labels": THREE},
        {"id2label": {"2": "好评", "0": "差评", "1": "中评"}},
        {"label2id": {"好评": 2, "差评": 0, "中评": 1}},
        {"id2label": dict(enumerate(THREE)), "label2id": {"好评": 2, "差评": 0, "中评": 1}},
    ],
)
def test_the_configuration_names_the_classes(tmp_path: Path, config: dict[str, Any]) -> None:
    assert labels(tmp_path, **config) == THREE


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"0": "a", "2": "b"}', "has 2 labels, but none for class 1"),
        ('{"1": "a", "2": "b"}', "has 2 labels, but none for class 0"),
        ('{"0": "a", "0": "b"}', "names class 0 twice"),
        ('{"0": "a", "00": "b"}', "names class 0 twice"),
        ('{"0": "a", "1": "a"}', "names the label 'a' twice"),
        ('{"0": "a", "one": "b"}', "must be 0 or more, not 'one'"),
        ('{"0": "a", "1": ""}', "must have texts as labels, none of them empty"),
        ('{"0": "a", "1": 2}', "must have texts as labels"),
        ('["a", "b"]', "must be a JSON object"),
        ("{", "is not JSON"),
    ],
)
def test_labels_with_holes_or_doubles_are_refused(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "id2label.json").write_text(text, encoding="utf-8")
    with pytest.raises(LabelError, match=r"id2label\.json") as error:
        labels(tmp_path)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("text", "sentence"), [("a\n\nb\n", "line 2 is empty"), ("a\nb\na\n", "names the label 'a' twice")]
)
def test_a_label_file_with_holes_or_doubles_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "labels.txt").write_text(text, encoding="utf-8")
    with pytest.raises(LabelError, match=sentence):
        labels(tmp_path)


def test_two_lists_that_differ_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="id2label and label2id name different labels"):
        labels(tmp_path, id2label={"0": "a", "1": "b"}, label2id={"a": 1, "b": 0})


def test_the_problem_type_gives_the_scores_and_a_file_replaces_it(tmp_path: Path) -> None:
    def found(**config: Any) -> str:
        return scores_of_folder(tmp_path, config, "config.json")

    assert found() == found(problem_type=None) == found(problem_type="single_label_classification") == "softmax"
    assert found(problem_type="multi_label_classification") == "sigmoid"
    assert found(problem_type="regression") == "raw"
    with pytest.raises(LabelError, match="problem_type must be one of"):
        found(problem_type="ranking")
    (tmp_path / "scores.txt").write_text("\ufeffsigmoid\n", encoding="utf-8")
    assert found(problem_type="regression") == "sigmoid"
    (tmp_path / "scores.txt").write_text("logits", encoding="utf-8")
    with pytest.raises(LabelError, match="must hold one word, softmax, sigmoid or raw, not 'logits'"):
        found()
