"""TNEWS in the split of FewCLUE: headlines of Toutiao in 15 classes, at most 80 training examples per class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from training.datasets.examples import Example
from training.datasets.paddlenlp_downloads import load_parts
from training.datasets.text_file import read_json_lines

SPLITS = {"train": "train_few_all", "dev": "dev_few_all", "test": "test_public"}
FILES = tuple(f"{split}.json" for split in SPLITS.values())
LABELS = {
    "news_story": "故事", "news_culture": "文化", "news_entertainment": "娱乐", "news_sports": "体育",
    "news_finance": "财经", "news_house": "房产", "news_car": "汽车", "news_edu": "教育", "news_tech": "科技",
    "news_military": "军事", "news_travel": "旅游", "news_world": "国际", "news_stock": "股票",
    "news_agriculture": "农业", "news_game": "电竞",
}  # fmt: skip
"""The labels, `label_desc` in the files, and their Chinese names from `label_index2en2zh.json`."""


def read(folder: Path) -> dict[str, list[Example]]:
    """train, dev and test of `folder`; raises ValueError, which names file and line, for a row of another form."""
    return {part: _examples(read_json_lines(folder / f"{split}.json")) for part, split in SPLITS.items()}


def download() -> dict[str, list[Example]]:
    """The same parts from PaddleNLP."""
    loaded = load_parts("fewclue", tuple(SPLITS.values()), config="tnews")
    return {part: _examples((f"PaddleNLP's {split}", row) for row in loaded[split]) for part, split in SPLITS.items()}


def _examples(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Example]:
    examples = []
    for where, row in rows:
        label, sentence = row.get("label_desc"), row.get("sentence")
        if label not in LABELS or not isinstance(sentence, str) or not sentence.strip():
            raise ValueError(f"{where} needs a sentence, and a label_desc that is one of the 15 labels.")
        examples.append(Example(label, sentence.strip(), where=where))
    return examples
