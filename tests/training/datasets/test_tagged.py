"""Tagged sentences: the schemes, what they forbid, and how broken files are refused."""

import logging
from pathlib import Path

import pytest

from training.datasets.examples import TaggedSentence, check_labels, tag_names
from training.datasets.tag_schemes import BILOU, BIO, BIOES, BMES, IOB1, Scheme, detect_scheme
from training.datasets.tagged import read_tagged


def write(path: Path, content: str) -> Path:
    path.write_bytes(content.encode("utf-8"))
    return path


SENTENCES = [
    TaggedSentence(("李", "明", "在", "家"), ("B-PER", "E-PER", "O", "S-LOC")),
    TaggedSentence(("好",), ("O",)),
]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "李 B-PER\n明 E-PER\n在 O\n家 S-LOC\n\n\n好 O"),
        ("a.conll", "李\tB-PER\n明\tE-PER\n在\tO\n家\tS-LOC\n \n好\tO\n\n"),
        (
            "a.jsonl",
            '{"tokens": ["李","明","在","家"], "tags": ["B-PER","E-PER","O","S-LOC"]}\n{"tokens":["好"],"tags":["O"]}',
        ),
    ],
)
@pytest.mark.parametrize("dialect", ["plain", "windows"])
def test_columns_and_json_give_the_same_sentences(tmp_path: Path, name: str, content: str, dialect: str) -> None:
    data = content if dialect == "plain" else "\ufeff" + content.replace("\n", "\r\n")
    assert read_tagged(write(tmp_path / name, data)) == SENTENCES


def test_a_space_can_be_a_token_of_a_file_with_tabs(tmp_path: Path) -> None:
    assert read_tagged(write(tmp_path / "a.txt", "A\tO\n \tO\nB\tO\n"))[0].tokens == ("A", " ", "B")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.txt", "李 B-PER\n明\n", "line 2 is not a token, a space or tab, and a tag: '明'"),
        ("a.txt", "EU NNP B-NP B-ORG\n", "line 1 is not a token"),
        ("a.txt", "李 B-PER\n O\n", "line 2 is not a token"),
        ("a.txt", "李 PERSON\n", "line 1: tag 'PERSON' is neither O nor one of B"),
        ("a.txt", "李 B-\n", "line 1: tag 'B-' is neither"),
        (
            "a.txt",
            "李 M-PER\n明 I-PER\n",
            "tags begin with I, M, which is not one of the schemes BIO, BMES, BIOES and BILOU",
        ),
        ("a.txt", "", "the file is empty"),
        ("a.jsonl", '{"tokens": ["李"], "tags": ["O", "O"]}', "line 1 has 1 tokens and 2 tags"),
        ("a.jsonl", '{"tokens": [], "tags": []}', "line 1 has 0 tokens"),
        ("a.jsonl", '{"tokens": ["", "a"], "tags": ["O", "O"]}', "line 1: token 1 is empty"),
        ("a.txt", "李 O\n\n\u200b O\n\ufffd O\n", r"line 3: the sentence '\\u200b\\ufffd' has no visible character"),
        ("a.jsonl", '{"text": "李"}', "line 1 must have tokens and tags, two lists of strings"),
        ("a.jsonl", '{"tokens": ["李"], "tags": [0]}', "line 1 must have tokens and tags, two lists of strings"),
        ("a.docx", "李 O", "unknown format of tagged sentences"),
    ],
)
def test_a_broken_file_is_refused_with_file_and_line(tmp_path: Path, name: str, content: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        read_tagged(write(tmp_path / name, content))
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        ("B-PER I-PER O B-LOC", BIO),
        ("B-PER O", BIO),
        ("O I-PER B-PER O", IOB1),
        ("I-PER I-PER O", IOB1),
        ("B-PER I-PER O I-LOC", BIO),  # a fault of BIO, for B- stands where IOB1 has none
        ("B-PER M-PER E-PER S-LOC O", BMES),
        ("B-PER I-PER E-PER S-LOC O", BIOES),
        ("B-PER I-PER L-PER U-LOC O", BILOU),
        ("B M E S", BMES),
    ],
)
def test_the_scheme_is_told_by_the_prefixes(tags: str, scheme: Scheme) -> None:
    assert detect_scheme([tags.split(), ["O"]]) is scheme


def test_tags_without_an_entity_have_no_scheme() -> None:
    with pytest.raises(ValueError, match="every tag is O"):
        detect_scheme([["O", "O"]])


@pytest.mark.parametrize(
    ("scheme", "tags", "faults"),
    [
        (BIO, "B-PER I-PER I-PER B-PER O B-LOC", []),
        (BIO, "I-PER O I-LOC I-LOC", [0, 2]),
        (BIO, "B-PER I-LOC", [1]),
        (IOB1, "I-PER I-PER B-PER I-PER O I-LOC", []),
        (IOB1, "B-PER I-PER O B-LOC I-PER B-LOC", [0, 3, 5]),
        (IOB1, "I B O I O B", [5]),
        (BMES, "B-PER M-PER M-PER E-PER S-LOC B-LOC E-LOC O", []),
        (BMES, "M-PER E-PER O", [0]),
        (BMES, "O E-PER", [1]),
        (BMES, "O M-PER", [1]),  # neither begun nor ended, but one tag
        (BMES, "B-PER O B-PER", [0, 2]),
        (BMES, "B-PER B-PER E-PER", [0]),
        (BMES, "B-PER E-LOC", [0, 1]),
        (BMES, "S-PER E-PER", [1]),
        (BIOES, "B-PER I-PER O S-LOC", [1]),
        (BILOU, "B-PER L-PER U-LOC L-LOC", [3]),
        (BMES, "B M E S B E", []),
        (BMES, "M E", [0]),
        (BIO, "O I", [1]),
    ],
)
def test_tags_that_cannot_stand_where_they_do_are_found(scheme: Scheme, tags: str, faults: list[int]) -> None:
    assert scheme.faults(tags.split()) == faults


def test_faults_are_counted_in_one_line_and_left_as_they_are(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "a.txt", "李 B-PER\n明 E-PER\n\n在 O\n家 E-LOC\n\n明 M-PER\n家 E-PER\n")
    with caplog.at_level(logging.WARNING):
        sentences = read_tagged(path)
    assert [sentence.tags for sentence in sentences[1:]] == [("O", "E-LOC"), ("M-PER", "E-PER")]
    assert len(caplog.records) == 1
    assert "2 tags are not allowed in their place by BMES" in caplog.text
    assert "token 2, E-LOC, of the sentence at line 4" in caplog.text


def test_sentences_without_faults_or_entities_are_read_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    read_tagged(write(tmp_path / "a.txt", "李 B-PER\n明 E-PER\n"))
    read_tagged(write(tmp_path / "b.txt", "好 O\n"))
    assert not caplog.records


def test_the_tags_to_learn_are_all_of_the_scheme_for_the_types_that_are_there() -> None:
    sentences = [TaggedSentence(("李", "明"), ("B-PER", "E-PER")), TaggedSentence(("京",), ("S-LOC",))]
    assert tag_names(sentences) == [
        "O", "B-LOC", "I-LOC", "E-LOC", "S-LOC", "B-PER", "I-PER", "E-PER", "S-PER",
    ]  # fmt: skip
    assert tag_names([TaggedSentence(("大", "家"), ("B", "M"))]) == ["O", "B", "M", "E", "S"]


def test_an_entity_type_that_train_has_not_is_named_with_its_line(tmp_path: Path) -> None:
    train = read_tagged(write(tmp_path / "train.txt", "李 B-PER\n明 M-PER\n国 E-PER\n"))
    check_labels(train, [TaggedSentence(("李",), ("S-PER",))])
    dev = read_tagged(write(tmp_path / "dev.txt", "好 O\n\n京 S-LOC\n"))
    with pytest.raises(ValueError, match=r"dev\.txt: line 3: tag 'S-LOC' is not among the 5 of train"):
        check_labels(train, dev)
