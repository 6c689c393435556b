"""Texts that the benchmarks send, and request bodies of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

# Reviews and news of usual lengths: 4 to 58 characters.
TEXTS = (
    "房间很干净，服务也很周到，下次还会再来。",
    "质量太差了，用了两天就坏了，非常失望。",
    "酒店离地铁站很近，交通方便，早餐的种类也不少，就是隔音不太好，晚上能听见走廊里的声音。",
    "书的内容不错，可是纸张很薄，印刷也有些模糊。",
    "笔记本外观漂亮，键盘手感很好，运行速度快，唯一的缺点是散热一般，玩游戏的时候比较烫。",
    "不推荐。",
    "昨天下午，记者从市政府召开的新闻发布会上了解到，今年全市将新建二十所小学，改建三十五所，预计明年秋季开学前全部完成。",
    "送货很快，包装也好，孩子非常喜欢。",
    "前台的态度很差，办理入住等了将近一个小时，房间里有烟味，空调也不制冷，打电话报修到退房也没有人来，以后不会再住了。",
    "屏幕清楚，声音洪亮，价格便宜。",
)
# A token takes at least one character, so with [CLS] and [SEP] no text is longer than 128 tokens.
MOST_CHARACTERS = 126
SHORT_CHARACTERS = 24


def read_texts(path: Path) -> list[str]:
    """One text a line, or the last column of a TSV, whose head is skipped if its first column is `label`."""
    lines = path.read_text(encoding="utf-8").split("\n")
    if lines[0].startswith("label\t"):
        del lines[0]
    return [text for line in lines if (text := line.rpartition("\t")[2].strip())]


def built_in_texts() -> dict[str, list[str]]:
    """Of TEXTS: pairs as reviews, beginnings as titles; both at most MOST_CHARACTERS long."""
    return {
        "reviews": [f"{left}{right}"[:MOST_CHARACTERS] for left in TEXTS for right in TEXTS],
        "titles": [text[:SHORT_CHARACTERS] for text in TEXTS],
    }


def masked(text: str) -> str:
    """The text with its middle character masked."""
    # A plus sign behind a mask would ask for a span.
    before, after = text[: len(text) // 2], text[len(text) // 2 + 1 :].removeprefix("+")
    return f"{before}[MASK]{after}"


def bodies_of(endpoint: str, texts: Sequence[str]) -> list[bytes]:
    """One request a text; for fill-mask the middle character of each is masked."""
    inputs = [masked(text) for text in texts] if endpoint == "/fill-mask" else texts
    return [json.dumps({"inputs": text, "truncation": "truncate"}).encode() for text in inputs]


def body(**fields: object) -> bytes:
    """JSON of the fields, in UTF-8."""
    return json.dumps(fields, ensure_ascii=False).encode()
