"""Data sets by name: their real files, and PaddleNLP's copies with nothing faked but the download."""

import functools
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from training.datasets import drcd, tnews
from training.datasets.examples import Answer, Example, Question, TaggedSentence, check_labels
from training.datasets.overlap import overlap_report
from training.datasets.registry import NAMED, load_named
from training.datasets.tag_schemes import BMES

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
loaded = functools.cache(lambda name: load_named(name, DATA))
real = pytest.mark.skipif(
    not DATA.is_dir(), reason="the data sets are not in ../shared/data; put them there to run this"
)


@real
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("chnsenticorp", {"train": 9600, "dev": 1200, "test": 1200}),
        ("tnews", {"train": 1185, "dev": 1098, "test": 2010}),
        ("thucnews", {"train": 89_989, "dev": 5046, "test": 4965}),
        ("msra_ner", {"train": 47_784, "dev": 2505, "test": 5000}),
    ],
)
def test_a_real_set_is_read_whole_and_its_evaluation_labels_are_in_train(name: str, sizes: dict[str, int]) -> None:
    parts = loaded(name)
    assert {part: len(rows) for part, rows in parts.items()} == sizes
    for part in ("dev", "test"):
        check_labels(parts["train"], parts[part])


@real
def test_the_published_overlap_of_chnsenticorp_is_found() -> None:
    parts = loaded("chnsenticorp")
    report = overlap_report(parts["train"], parts["test"])
    assert report.counts == {"texts": 1200, "in_train": 335}
    assert len(report.unseen) == 865
    assert overlap_report(parts["train"], parts["dev"]).counts["in_train"] == 342


@real
@pytest.mark.parametrize("name", ["thucnews", "msra_ner"])
def test_sets_split_by_their_text_have_no_copies_of_dev_in_train(name: str) -> None:
    parts = loaded(name)
    assert overlap_report(parts["train"], parts["dev"]).counts["in_train"] == 0


@real
def test_msra_ner_has_a_few_faults_where_long_sentences_were_cut_within_a_name() -> None:
    faults = {part: sum(len(BMES.faults(row.tags)) for row in rows) for part, rows in loaded("msra_ner").items()}
    assert faults["train"] + faults["dev"] == 6
    assert faults["test"] == 11


@real
def test_cmrc2018_keeps_every_question_of_dev_and_says_what_it_changed(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        parts = load_named("cmrc2018", DATA)
    assert {part: len(rows) for part, rows in parts.items()} == {"trial": 1000, "dev": 3219}
    answers = [(row.context, *answer) for row in parts["dev"] for answer in row.answers]
    assert len(answers) == 3 * 3219
    assert sum(start is None for _, _, start in answers) == 193
    assert all(start is None or context.startswith(text, start) for context, text, start in answers)
    assert all(any(answer.start is not None for answer in row.answers) for row in parts["dev"])
    assert "193 answers not in the context; 7 answers whose start was corrected" in caplog.text
    assert "5 answers whose start was corrected; 2 questions without text left out" in caplog.text


@real
def test_drcd_needs_no_leniency(caplog: pytest.LogCaptureFixture) -> None:
    parts = load_named("drcd", DATA)
    assert {part: len(rows) for part, rows in parts.items()} == {"dev": 3524, "test": 3493}
    assert not caplog.records


@real
def test_drcd_to_cmrc2018_is_simplified_and_its_parts_share_no_context() -> None:
    pytest.importorskip("opencc", reason="OpenCC converts the characters: pip install 'ernie-zh[opencc]'")
    parts = load_named("drcd_to_cmrc2018", DATA)
    assert {part: len(rows) for part, rows in parts.items()} == {"train": 7830, "dev": 187, "test": 3219}
    first = parts["train"][0]
    assert first.context.startswith("在欧洲，梵语的学术研究")
    assert first.answers[0] == Answer("欧洲", 1)
    for row in parts["train"]:
        assert all(row.context.startswith(text, start) for text, start in row.answers)
    for part in ("dev", "test"):
        assert overlap_report(parts["train"], parts[part]).counts["contexts_in_train"] == 0


@real
def test_the_names_of_tnews_are_those_of_its_file() -> None:
    lines = (DATA / "classification/tnews_fewclue/label_index2en2zh.json").read_text(encoding="utf-8").splitlines()
    assert {row["label_desc"]: row["label_zh"] for row in map(json.loads, lines)} == tnews.LABELS


def test_simplified_answers_are_cut_out_of_the_simplified_context() -> None:
    pytest.importorskip("opencc", reason="OpenCC converts the characters: pip install 'ernie-zh[opencc]'")
    # 乾 alone stays as it is, for it is also a name; in 乾淨 it becomes 干.
    question = Question("1", "房間很乾淨。", "乾嗎？", (Answer("乾", 3), Answer("潔", None)))
    (converted,) = drcd.simplified([question])
    assert converted.context == "房间很干净。"
    assert converted.answers == (Answer("干", 3),)


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'conll' is not a known data set; known are chnsenticorp, tnews"):
        load_named("conll", tmp_path)


@pytest.mark.parametrize("name", NAMED)
def test_what_is_missing_is_said_with_where_it_belongs(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is missing; put") as caught:
        load_named(name, tmp_path)
    assert str(tmp_path / NAMED[name].folder) in str(caught.value)
    assert all(file in str(caught.value) for file in NAMED[name].files)
    assert ("PaddleNLP" in str(caught.value)) == (NAMED[name].download is not None)


def test_only_the_missing_files_are_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / NAMED["msra_ner"].folder
    folder.mkdir(parents=True)
    (folder / "msra_train.txt").write_text("李 S-PER\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"put msra_test\.txt into"):
        load_named("msra_ner", tmp_path)


class Downloads:
    """Stands for the network, which tests may not have: PaddleNLP's own readers read what was `put` here."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from paddlenlp.datasets import dataset

        self.folder, self.monkeypatch = folder, monkeypatch
        monkeypatch.setattr(dataset, "DATA_HOME", str(folder))  # for its lock files

    def put(self, builder: type, files: dict[str, str]) -> None:
        for split, text in files.items():
            (self.folder / split).write_text(text, encoding="utf-8")

        def get(_: object, split: str, **kwargs: Any) -> str:
            return str(self.folder / split)

        self.monkeypatch.setattr(builder, "_get_data", get)


@pytest.fixture
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Downloads:
    folder = tmp_path / "downloads"
    folder.mkdir()
    return Downloads(folder, monkeypatch)


def test_chnsenticorp_is_downloaded_with_the_labels_of_its_test_part(tmp_path: Path, downloads: Downloads) -> None:
    from paddlenlp.datasets.chnsenticorp_v2 import ChnSentiCorpV2

    downloads.put(ChnSentiCorpV2, {"train": "很好\t1\n太差\t0\n", "dev": "差\t0\n", "test": "好\t1\n"})
    assert load_named("chnsenticorp", tmp_path, download=True) == {
        "train": [Example("1", "很好"), Example("0", "太差")],
        "dev": [Example("0", "差")],
        "test": [Example("1", "好")],
    }


def test_tnews_is_downloaded_as_fewclue_cuts_it(tmp_path: Path, downloads: Downloads) -> None:
    from paddlenlp.datasets.fewclue import FewCLUE

    row = {"label": 104, "label_desc": "news_finance", "sentence": "股价涨了", "keywords": "", "id": 1}
    splits = {split: json.dumps(row, ensure_ascii=False) + "\n" for split in tnews.SPLITS.values()}
    downloads.put(FewCLUE, splits)
    expected = [Example("news_finance", "股价涨了")]
    assert load_named("tnews", tmp_path, download=True) == {"train": expected, "dev": expected, "test": expected}


def test_msra_ner_is_downloaded_with_its_tags(tmp_path: Path, downloads: Downloads) -> None:
    from paddlenlp.datasets.msra_ner import MsraNer

    line = "李\2明\2好\tB-PER\2I-PER\2O\n"
    downloads.put(MsraNer, {"train": line, "test": line})
    expected = [TaggedSentence(("李", "明", "好"), ("B-PER", "I-PER", "O"))]
    assert load_named("msra_ner", tmp_path, download=True) == {"train": expected, "dev": [], "test": expected}


@pytest.mark.parametrize("name", ["cmrc2018", "drcd"])
def test_questions_are_downloaded_and_their_answers_stand_where_they_say(
    tmp_path: Path, downloads: Downloads, name: str
) -> None:
    from paddlenlp.datasets.cmrc2018 import CMRC2018
    from paddlenlp.datasets.drcd import DRCD

    builder = {"cmrc2018": CMRC2018, "drcd": DRCD}[name]
    answer = {"text": "北京 ", "answer_start": 1}  # PaddleNLP strips the context, so it then stands at 0
    qas = [{"id": "1", "question": "哪里？", "answers": [answer]}]
    file = json.dumps({"data": [{"paragraphs": [{"context": " 北京 好", "qas": qas}]}]}, ensure_ascii=False)
    downloads.put(builder, dict.fromkeys(builder.SPLITS, file))
    parts = load_named(name, tmp_path, download=True)
    assert set(parts) == set(builder.SPLITS)
    assert parts["dev"] == [Question("1", "北京 好", "哪里？", (Answer("北京", 0),))]


@pytest.mark.parametrize("error", [RuntimeError("Download from x failed."), OSError("No space left on device")])
def test_a_download_that_fails_says_what_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    from paddlenlp.datasets.msra_ner import MsraNer

    def fail(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(MsraNer, "_get_data", fail)
    sentence = rf"msra_ner is missing, and PaddleNLP could not download msra_ner: {str(error).rstrip('.')}; put msra_t"
    with pytest.raises(ValueError, match=sentence):
        load_named("msra_ner", tmp_path, download=True)


def test_files_that_are_there_are_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / NAMED["chnsenticorp"].folder
    folder.mkdir(parents=True)
    for part in ("train", "dev", "test"):
        (folder / f"{part}.tsv").write_text(f"label\ttext_a\n1\t{part}\n", encoding="utf-8")
    assert load_named("chnsenticorp", tmp_path, download=True)["dev"] == [Example("1", "dev")]
