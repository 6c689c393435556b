"""The sample map in its cache: found again, rebuilt when damaged, safe with several processes starting at once."""

from __future__ import annotations

import dataclasses
import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from training.corpus.indexed import IndexedCorpus
from training.pretraining.sample_order import SAMPLE, MapSettings, SampleError, build, open_part, open_source

SETTINGS = MapSettings(max_seq_length=64)


def a_corpus(documents: int = 300, seed: int = 1) -> IndexedCorpus:
    rng = np.random.default_rng(seed)
    sentences = rng.integers(1, 8, documents)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(2, 30, sentences.sum()))]).astype(np.int64)
    ends = np.concatenate([[0], np.cumsum(sentences)]).astype(np.int64)
    return IndexedCorpus(Path("data/a"), np.full(offsets[-1], 7, np.uint16), None, offsets, ends)


def only_map(cache: Path) -> Path:
    (path,) = cache.glob("*.map")
    return path


def test_the_map_is_kept_with_its_description_and_found_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    corpus = a_corpus()
    first = open_source(corpus, range(300), SETTINGS, tmp_path / "cache")
    written = only_map(tmp_path / "cache").stat().st_mtime_ns
    caplog.set_level(logging.INFO)
    caplog.clear()
    again = open_source(corpus, range(300), SETTINGS, tmp_path / "cache")
    assert isinstance(again.rows, np.memmap)
    assert not caplog.records  # nothing built, nothing to complain about
    assert (again.rows == first.rows).all()
    assert again.seed == first.seed
    assert only_map(tmp_path / "cache").stat().st_mtime_ns == written
    description = json.loads(only_map(tmp_path / "cache").with_suffix(".json").read_text())
    assert description["corpus"]["documents"] == 300
    assert description["window"] == 61
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".json", ".map"]


@pytest.mark.parametrize(
    "change", [{"max_seq_length": 65}, {"short_seq_prob": 0.2}, {"sentence_order": False}, {"seed": 2}]
)
def test_other_settings_have_a_map_of_their_own(tmp_path: Path, change: dict[str, float]) -> None:
    corpus = a_corpus()
    one = open_source(corpus, range(300), SETTINGS, tmp_path)
    other = open_source(corpus, range(300), dataclasses.replace(SETTINGS, **change), tmp_path)
    assert len(list(tmp_path.glob("*.map"))) == 2
    assert one.seed != other.seed


def test_other_text_and_another_part_have_maps_of_their_own(tmp_path: Path) -> None:
    open_source(a_corpus(), range(300), SETTINGS, tmp_path)
    open_source(a_corpus(), range(299), SETTINGS, tmp_path)
    open_source(a_corpus(seed=2), range(300), SETTINGS, tmp_path)
    assert len(list(tmp_path.glob("*.map"))) == 3


def test_any_flipped_bit_and_any_cut_is_noticed_and_repaired(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    corpus = a_corpus(documents=20)
    rows = build(corpus, range(20), SETTINGS)
    open_source(corpus, range(20), SETTINGS, tmp_path)
    path = only_map(tmp_path)
    good = path.read_bytes()
    rng = np.random.default_rng(1)
    damaged = [good[:n] for n in (0, 10, 64, 65, len(good) - 16, len(good) - 1)] + [good + b"\0" * 16]
    for place in rng.integers(0, len(good) * 8, 60).tolist():
        flipped = bytearray(good)
        flipped[place // 8] ^= 1 << place % 8
        damaged.append(bytes(flipped))
    for content in damaged:
        path.write_bytes(content)
        caplog.clear()
        assert (open_source(corpus, range(20), SETTINGS, tmp_path).rows == rows).all()
        assert f"the sample map {path}" in caplog.text
        assert path.read_bytes() == good


def test_a_folder_that_cannot_be_written_costs_the_cache_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "file"
    file.write_text("no folder")
    corpus = a_corpus()
    source = open_source(corpus, range(300), SETTINGS, file / "cache")
    assert (source.rows == build(corpus, range(300), SETTINGS)).all()
    assert "is built at every start" in caplog.text


def test_a_disk_that_is_full_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("model_build.atomic_write.os.fsync", full)
    corpus = a_corpus()
    assert len(open_source(corpus, range(300), SETTINGS, tmp_path).rows)
    assert not list(tmp_path.iterdir())


START = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_sample_order import SETTINGS, a_corpus
from training.pretraining.sample_order import open_source
corpus = a_corpus(20000)
print("ready", flush=True)
sys.stdin.read()
source = open_source(corpus, range(20000), SETTINGS, Path(sys.argv[1]))
print(len(source.rows), int(source.rows["begin"].sum()), source.seed)
"""


def test_several_processes_may_start_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", START, str(tmp_path), str(Path(__file__).parent)]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    results = [process.communicate(timeout=60) for process in started]
    assert [process.returncode for process in started] == [0] * 3, results
    assert len({out for out, _ in results}) == 1
    assert all(not err for _, err in results)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".map"]


def test_a_row_is_sixteen_bytes() -> None:
    assert SAMPLE.itemsize == 16


def test_a_part_without_text_says_so() -> None:
    empty = IndexedCorpus(Path("data/a"), np.zeros(0, np.uint16), None, np.zeros(3, np.int64), np.array([0, 1, 2]))
    with pytest.raises(SampleError, match=r"data/a has no samples: documents 0 to 2 have no tokens"):
        open_source(empty, range(2), SETTINGS, None)


def test_a_part_of_every_corpus_is_opened_and_a_small_corpus_is_named() -> None:
    small = dataclasses.replace(a_corpus(documents=5), prefix=Path("data/small"))
    sources = open_part([a_corpus(), small], "8,2", "validation", SETTINGS, None)
    for source, first in zip(sources, (240, 4), strict=True):
        corpus = source.corpus
        assert source.rows["begin"][0] == corpus.offsets[corpus.documents[first]]
        assert source.rows["begin"][-1] + source.rows["length"][-1] == len(corpus.tokens)
    with pytest.raises(ValueError, match="data/small has 5 documents, too few"):
        open_part([a_corpus(), small], "98,1,1", "test", SETTINGS, None)


def test_documents_of_one_sentence_train_the_masked_lm_and_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    corpus = IndexedCorpus(
        Path("data/a"), np.full(20, 7, np.uint16), None, np.arange(0, 21, 5), np.arange(5, dtype=np.int64)
    )
    source = open_source(corpus, range(4), SETTINGS, None)
    assert len(source.rows) == 4
    assert "no document with two sentences" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [({"max_seq_length": 4}, "max_seq_length"), ({"short_seq_prob": 2.0}, "short_seq_prob"), ({"seed": -1}, "seed")],
)
def test_settings_out_of_range_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SETTINGS, **change)
