"""A small vocabulary, some text in every kind of file, and the bytes of a corpus."""

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from training.corpus.vocabulary import SPECIAL_TOKENS

SENTENCES = (
    "今天天气很好，我们去北京大学散步。",
    "“你好！”他说：“明天见。”",
    "The price of iPhone15 is 5999 yuan.",
    "这家酒店的房间很干净……服务也好；",
    "王小明在上海市人民政府工作吗？",
    "机器学习（machine learning）改变世界！",
)
PIECES = ("the", "price", "of", "iphone", "##15", "is", "599", "##9", "yuan", "machine", "learn", "##ing")


@pytest.fixture(scope="session")
def vocab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    characters = sorted({c for c in "".join(SENTENCES).lower() + "0123456789第篇" if not c.isspace()})
    tokens = [*SPECIAL_TOKENS, *characters, *PIECES, *(f"##{digit}" for digit in range(8) if digit != 5)]
    path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    path.write_text("\n".join(dict.fromkeys(tokens)) + "\n", encoding="utf-8")
    return path


def documents(first: int, count: int) -> list[str]:
    """Different documents of one to six sentences, some on several lines."""
    chosen = random.Random(first)
    made = []
    for number in range(first, first + count):
        rows = chosen.choices(SENTENCES, k=chosen.randint(1, 6))
        made.append(f"第{number}篇。" + chosen.choice(("", "\n")).join(rows))
    return made


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text file, a .jsonl file and both compressed, 180 documents and 20 copies."""
    folder = tmp_path_factory.mktemp("text")
    (folder / "a.txt").write_text("\n\n".join(documents(0, 60)), encoding="utf-8")
    lines = [json.dumps({"text": each}, ensure_ascii=False) for each in documents(60, 40)]
    (folder / "b.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "below").mkdir()
    packed = "\n\n".join(documents(100, 40) + documents(0, 20))
    (folder / "below" / "c.txt.gz").write_bytes(gzip.compress(packed.encode()))
    lines = [json.dumps({"text": each}) for each in documents(140, 40)]
    (folder / "d.jsonl.zst").write_bytes(zstandard.compress("\n".join(lines).encode()))
    return folder


def corpus_bytes(prefix: Path) -> dict[str, bytes]:
    """Content of all files of a corpus, by suffix; anything else that lies beside it shows too."""
    beside = prefix.parent.glob(f"{prefix.name}*")
    return {path.name[len(prefix.name) :]: path.read_bytes() if path.is_file() else b"" for path in beside}


@pytest.fixture
def write_text(tmp_path: Path) -> Callable[[str | bytes, str], Path]:
    """Writes a file of the given content and name."""

    def write(content: str | bytes, name: str = "text.txt") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return write
