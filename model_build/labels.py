"""The labels of a model and the kind of its scores, as the files of its folder name them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

Scores = Literal["softmax", "sigmoid", "raw"]
"""What a classifier answers: a softmax over all labels, a sigmoid of each label, or the outputs as they are."""
SCORES: tuple[Scores, ...] = get_args(Scores)

SCORES_OF: dict[str, Scores] = {
    "single_label_classification": "softmax",
    "multi_label_classification": "sigmoid",
    "regression": "raw",
}
"""The scores of each `problem_type` that `config.json` of PaddleNLP and Hugging Face can name."""
PROBLEM_TYPES: dict[Scores, str] = {scores: name for name, scores in SCORES_OF.items()}

LABEL_FILES = ("labels.txt", "label_list.txt", "label.txt")
"""Files with one label on each line; the first one that exists counts."""
ID2LABEL_FILE = "id2label.json"
SCORES_FILE = "scores.txt"


class LabelError(ValueError):
    """Labels or scores that cannot be used; the message is one sentence that names the file and the error."""


def labels_of_folder(directory: Path, config: Mapping[str, Any], config_name: str) -> list[str]:
    """The labels of a model in the order of its classes; empty if no file names them.

    They come from a label file, otherwise from `id2label.json`, otherwise from `labels`, `id2label` or `label2id` of
    the configuration, whose file is called `config_name`. Raises LabelError, OSError.
    """
    for path in (directory / name for name in LABEL_FILES):
        if path.is_file():
            return _listed(_read(path), str(path))
    path = directory / ID2LABEL_FILE
    if path.is_file():
        return _by_id(_json_object(path), str(path))
    where = f"{directory / config_name}: "
    if labels := config.get("labels"):
        return _distinct(_strings(labels, f"{where}labels"), f"{where}labels")
    by_id, by_label = config.get("id2label") or {}, config.get("label2id") or {}
    labels = _by_id(_mapping(by_id, f"{where}id2label"), f"{where}id2label")
    by_label = _mapping(by_label, f"{where}label2id")
    found = _ordered([(number, label) for label, number in by_label.items()], f"{where}label2id")
    if labels and found and labels != found:
        raise LabelError(f"{where}id2label and label2id name different labels; correct one of them.")
    return labels or found


def scores_of_folder(directory: Path, config: Mapping[str, Any], config_name: str) -> Scores:
    """What `scores.txt` says, otherwise `problem_type` of the configuration; softmax if neither says it.

    Raises LabelError, OSError.
    """
    path = directory / SCORES_FILE
    if path.is_file():
        word = _read(path).strip()
        if word not in SCORES:
            raise LabelError(f"{path} must hold one word, {', '.join(SCORES[:-1])} or {SCORES[-1]}, not {word[:40]!r}.")
        return word
    kind = config.get("problem_type")
    if kind is None:
        return "softmax"
    if not isinstance(kind, str) or kind not in SCORES_OF:
        raise LabelError(
            f"{directory / config_name}: problem_type must be one of {', '.join(SCORES_OF)}, not {str(kind)[:40]!r}."
        )
    return SCORES_OF[kind]


def _listed(text: str, where: str) -> list[str]:
    """One label on each line. Blank lines may follow the last label."""
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if "" in lines:
        raise LabelError(f"{where}: line {lines.index('') + 1} is empty; write one label on each line.")
    return _distinct(lines, where)


def _by_id(names: Mapping[str, Any], where: str) -> list[str]:
    """The labels of a mapping from class number to label, whose keys may be in any order."""
    return _ordered(list(names.items()), where)


def _ordered(pairs: Sequence[tuple[Any, Any]], where: str) -> list[str]:
    """The labels of pairs of class number and label, whose numbers must be 0, 1, 2 …"""
    numbered: dict[int, Any] = {}
    for key, label in pairs:
        number = _number(key)
        if number is None:
            raise LabelError(f"{where}: the number of a class must be 0 or more, not {str(key)[:40]!r}.")
        if number in numbered:
            raise LabelError(f"{where} names class {number} twice; keep one of them.")
        numbered[number] = label
    if missing := [number for number in range(len(numbered)) if number not in numbered]:
        raise LabelError(f"{where} has {len(numbered)} labels, but none for class {missing[0]}.")
    return _distinct(_strings([numbered[number] for number in range(len(numbered))], where), where)


def _number(key: Any) -> int | None:
    """The class number of a key; JSON has strings as keys. None for anything else."""
    if isinstance(key, str) and key.isascii() and key.isdecimal() and len(key) < 10:
        return int(key)
    return key if type(key) is int and key >= 0 else None


def _strings(labels: Any, where: str) -> list[str]:
    if not isinstance(labels, list) or not all(isinstance(label, str) and label.strip() for label in labels):
        raise LabelError(f"{where} must have texts as labels, none of them empty.")
    return labels


def _distinct(labels: list[str], where: str) -> list[str]:
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise LabelError(f"{where} names the label {twice[:40]!r} twice; every class needs its own label.")
    return labels


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise LabelError(f"{where} must be a JSON object.")
    return value


def _json_object(path: Path) -> dict[str, Any]:
    """The JSON object of a file; raises LabelError if a key occurs twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise LabelError(f"{path} names class {twice[:40]} twice; keep one of them.")
        return dict(pairs)

    try:
        value = json.loads(_read(path), object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise LabelError(f"{path} is not JSON: {error.msg} at character {error.pos}.") from error
    except RecursionError:
        raise LabelError(f"{path} is not JSON that can be read, because it is nested too deeply.") from None
    return _mapping(value, str(path))


def _read(path: Path) -> str:
    """The text of a UTF-8 file, with or without byte order mark."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelError(f"{path} is not UTF-8 at byte {error.start}; save it as UTF-8.") from error
