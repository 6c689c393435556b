"""Corpora on disk: Megatron's layout read by an independent reader, PaddleNLP's reader, damage, merging, conversion."""

import gzip
import importlib.util
import json
import shutil
import struct
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native import ErnieTokenizer
from tests.training.corpus.conftest import corpus_bytes
from training.cli import ernie_train as cli
from training.corpus.build import build_corpus
from training.corpus.convert import convert_ernie, convert_paddlenlp
from training.corpus.indexed import CorpusError, IndexedCorpus
from training.corpus.inspect import inspect_corpus
from training.corpus.merge import merge_corpora
from training.corpus.settings import BuildSettings
from training.corpus.verify import verify_corpus
from training.corpus.writer import CorpusWriter, best_dtype

DEMO = Path(__file__).resolve().parents[4] / "shared" / "data"
Documents = list[list[list[int]]]


@pytest.fixture(scope="module")
def corpus(text: Path, vocab: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    prefix = tmp_path_factory.mktemp("corpus") / "corpus"
    build_corpus([text], vocab, prefix, build_settings=BuildSettings(workers=1))
    return prefix


def read_megatron(prefix: Path) -> Documents:
    """Documents of sentences of ids, by the published layout and nothing of ours."""
    index = prefix.with_suffix(".idx").read_bytes()
    assert index[:9] == b"MMIDIDX\x00\x00"
    version, code, sequences, documents = struct.unpack("<QBQQ", index[9:34])
    assert version == 1
    dtype = {4: "<i4", 8: "<u2"}[code]
    sizes = np.frombuffer(index, "<i4", sequences, 34)
    pointers = np.frombuffer(index, "<i8", sequences, 34 + 4 * sequences)
    doc_idx = np.frombuffer(index, "<i8", documents, 34 + 12 * sequences)
    assert len(index) == 34 + 12 * sequences + 8 * documents
    data = prefix.with_suffix(".bin").read_bytes()
    rows = [np.frombuffer(data, dtype, size, at).tolist() for size, at in zip(sizes, pointers, strict=True)]
    return [rows[first:last] for first, last in pairwise(doc_idx)]


def read_ours(prefix: Path) -> Documents:
    corpus = IndexedCorpus.open(prefix)
    bounds = pairwise(corpus.documents)
    return [[corpus.sentence(index).tolist() for index in range(first, last)] for first, last in bounds]


def write(prefix: Path, documents: Documents, dtype: type, boundaries: bool = True) -> None:
    with CorpusWriter(prefix, np.dtype(dtype), boundaries=boundaries) as writer:
        for document in documents:
            for number, row in enumerate(document):
                marks = np.ones(len(row), dtype=np.uint8) if boundaries else None
                writer.add(np.array(row, dtype=dtype), marks, np.array([len(row)]), np.array([number == 0]))
        writer.finish({})


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.lists(st.integers(0, 65535), min_size=1, max_size=5), min_size=1, max_size=4), min_size=1),
    st.sampled_from([np.uint16, np.int32]),
)
def test_what_is_written_is_read_by_megatrons_layout_and_by_us(
    tmp_path_factory: pytest.TempPathFactory, documents: Documents, dtype: type
) -> None:
    prefix = tmp_path_factory.mktemp("written") / "corpus"
    write(prefix, documents, dtype)
    assert read_megatron(prefix) == documents == read_ours(prefix)
    assert sorted(path.name for path in prefix.parent.iterdir()) == [
        "corpus.bin",
        "corpus.idx",
        "corpus.json",
        "corpus.seg",
    ]


def test_the_type_is_megatrons_choice() -> None:
    assert best_dtype(65499) == np.uint16
    assert best_dtype(65500) == np.int32


@pytest.fixture(scope="module")
def paddlenlp_reader() -> ModuleType:
    """paddlenlp/data/indexed_dataset.py by itself; the whole package takes a quarter of a minute to import."""
    package = importlib.util.find_spec("paddlenlp")
    if package is None or not package.submodule_search_locations:
        pytest.skip("PaddleNLP is not installed")
    path = Path(package.submodule_search_locations[0]) / "data" / "indexed_dataset.py"
    spec = importlib.util.spec_from_file_location("paddlenlp_indexed_dataset", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_paddlenlp_reads_our_corpus(corpus: Path, paddlenlp_reader: ModuleType) -> None:
    theirs = paddlenlp_reader.MMapIndexedDataset(str(corpus))
    bounds = pairwise(theirs.doc_idx)
    assert [[theirs[int(i)].tolist() for i in range(first, last)] for first, last in bounds] == read_ours(corpus)


def test_we_read_what_paddlenlp_writes(tmp_path: Path, paddlenlp_reader: ModuleType) -> None:
    documents = [[[1, 2, 3], [4]], [[5, 6]]]
    builder = paddlenlp_reader.make_builder(str(tmp_path / "their.bin"), "mmap", save_dtype=np.uint16)
    for document in documents:
        for row in document:
            builder.add_item(np.array(row, dtype=np.uint16))
        builder.end_document()
    builder.finalize(str(tmp_path / "their.idx"))
    assert read_ours(tmp_path / "their") == documents
    assert IndexedCorpus.open(tmp_path / "their").boundaries is None


def save_pair(prefix: Path, documents: Documents) -> None:
    rows = [row for document in documents for row in document]
    np.save(f"{prefix}_ids.npy", np.array([token for row in rows for token in row], dtype=np.uint16))
    docs = np.cumsum([0, *map(len, documents)])
    np.savez(f"{prefix}_idx.npz", lens=np.array(list(map(len, rows)), dtype=np.int32), docs=docs)


def test_paddlenlps_older_pairs_are_read_as_they_are(tmp_path: Path, paddlenlp_reader: ModuleType) -> None:
    documents = [[[1, 2, 3], [4]], [[5, 6]]]
    save_pair(tmp_path / "old", documents)
    assert read_ours(tmp_path / "old") == documents
    theirs = paddlenlp_reader.CompatibleIndexedDataset(str(tmp_path / "old"))
    assert [theirs[i].tolist() for i in range(3)] == [row for document in documents for row in document]


def test_marked_characters_of_paddlenlp_become_plain_ones_with_boundaries(tmp_path: Path) -> None:
    vocab = tmp_path / "vocab.txt"
    tokens = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]", "北", "京", "##京", "我", "ab", "##c", "，"]
    vocab.write_text("\n".join(tokens) + "\n", encoding="utf-8")
    # 京 has its twin in the vocabulary, so the marks are 12 for 北 and 13 for 我.
    save_pair(tmp_path / "old", [[[8, 12, 6, 11, 9, 10]], [[5, 13, 12]]])
    convert_paddlenlp(tmp_path / "old", tmp_path / "new", vocab)
    corpus = IndexedCorpus.open(tmp_path / "new")
    assert corpus.tokens.tolist() == [8, 5, 6, 11, 9, 10, 5, 8, 5]
    assert corpus.boundaries is not None
    assert corpus.boundaries.tolist() == [2, 0, 1, 1, 2, 0, 2, 0, 0]
    convert_paddlenlp(tmp_path / "old", tmp_path / "raw")
    assert read_ours(tmp_path / "raw") == read_ours(tmp_path / "old")
    save_pair(tmp_path / "beyond", [[[14]]])
    with pytest.raises(CorpusError, match="has the id 14"):
        convert_paddlenlp(tmp_path / "beyond", tmp_path / "never", vocab)


def test_the_marks_are_those_of_paddlenlps_tokenizer(vocab: Path) -> None:
    """`extend_chinese_char` adds `##` twins in the order of the vocabulary, for U+4E00 to U+9FA5 that have none."""
    from training.corpus.convert import _marked_characters

    tokens = [*ErnieTokenizer.from_file(vocab).tokens, "㐀", "龥", "龦", "##龥"]
    plain, inside = _marked_characters(tokens)
    twins = [t for t in tokens if len(t) == 1 and 0x4E00 <= ord(t) <= 0x9FA5 and f"##{t}" not in tokens]
    assert [tokens[index] for index in plain[len(tokens) :]] == twins
    assert inside[len(tokens) :].all()


def test_a_token_that_occurs_twice_shifts_the_marks_as_in_paddlenlp() -> None:
    """PaddleNLP's size of the vocabulary counts `$` once, and the marked characters begin there."""
    from training.corpus.convert import _marked_characters

    tokens = ["[PAD]", "$", "北", "京", "$", "是", "x", "y"]
    plain, inside = _marked_characters(tokens)
    assert [tokens[index] for index in plain[7:]] == ["北", "京", "是"]
    assert [tokens[index] for index in plain[:7]] == tokens[:7]
    assert inside.tolist() == [False] * 7 + [True] * 3


def samples(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "samples.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


GOOD = "1 10 11 12 2 13 2;0 0 0 0 0 1 1;0 1 2 3 4 5 6;-1 0 1 0 -1 0 -1;1"


def test_samples_of_ernie_become_sentences_and_true_pairs_documents(vocab: Path, tmp_path: Path) -> None:
    path = samples(tmp_path, GOOD, GOOD[:-1] + "0", "1 9 2;0 0 0;0 1 2;-1 0 -1;0")
    convert_ernie([path], tmp_path / "new", vocab)
    assert read_ours(tmp_path / "new") == [[[10, 11, 12], [13]], [[10, 11, 12]], [[13]], [[9]]]
    boundaries = IndexedCorpus.open(tmp_path / "new").boundaries
    assert boundaries is not None
    assert boundaries.tolist() == [2, 0, 1, 1, 2, 0, 1, 1, 1]
    verify_corpus(tmp_path / "new")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("1 2;0 0", "it has 2 fields, not 5"),
        (GOOD.replace("10", "x"), "invalid literal"),
        (GOOD.replace("10", "60000"), "the id 60000, but the vocabulary has"),
        (GOOD.replace(" 11", ""), "6 ids, 7 segment ids and 7 labels"),
        (GOOD[:-1] + "2", "not 0 or 1"),
        ("1 2;0 0;0 1;-1 -1;0", "its first segment is empty"),
    ],
)
def test_a_bad_sample_is_refused_with_its_line(vocab: Path, tmp_path: Path, line: str, sentence: str) -> None:
    with pytest.raises(CorpusError, match=rf"samples\.gz: line 2 is not a sample of ERNIE 1\.0: .*{sentence}"):
        convert_ernie([samples(tmp_path, GOOD, line)], tmp_path / "new", vocab)
    assert not list(tmp_path.glob("new*"))


@pytest.mark.skipif(not (DEMO / "pretraining").is_dir(), reason="the ERNIE 1.0 demo is not on this machine")
def test_the_official_demo_converts_to_its_own_ids(tmp_path: Path) -> None:
    path = DEMO / "pretraining" / "ernie1.0_demo" / "demo_valid_set.gz"
    convert_ernie([path], tmp_path / "demo", DEMO / "vocab" / "ernie-1.0.vocab.txt")
    corpus = verify_corpus(tmp_path / "demo")
    with gzip.open(path, "rt") as file:
        lines = [line.strip().split(";") for line in file]
    expected = [token for line in lines for token in line[0].split() if token not in ("1", "2")]
    assert list(map(str, corpus.tokens)) == expected
    assert len(corpus.documents) - 1 == sum(2 - int(line[4]) for line in lines)


def test_a_merged_corpus_holds_the_documents_of_its_parts_in_order(corpus: Path, tmp_path: Path) -> None:
    description = merge_corpora([corpus, corpus], tmp_path / "twice")
    assert read_megatron(tmp_path / "twice") == read_ours(corpus) * 2
    assert corpus_bytes(tmp_path / "twice")[".seg"] == corpus_bytes(corpus)[".seg"] * 2
    assert description["counts"]["documents"] == 360
    verify_corpus(tmp_path / "twice")


def test_corpora_that_do_not_fit_are_not_merged(corpus: Path, tmp_path: Path) -> None:
    write(tmp_path / "wide", [[[1]]], np.int32)
    write(tmp_path / "narrow", [[[1]]], np.uint16)
    write(tmp_path / "bare", [[[1]]], np.uint16, boundaries=False)
    for other, sentence in ((corpus, "vocabularies"), (tmp_path / "wide", "int32"), (tmp_path / "bare", r"\.seg")):
        with pytest.raises(CorpusError, match=sentence):
            merge_corpora([tmp_path / "narrow", other], tmp_path / "never")
    with pytest.raises(CorpusError, match="already; remove its files"):
        merge_corpora([tmp_path / "narrow"], tmp_path / "wide")


@pytest.mark.parametrize("suffix", [".bin", ".seg", ".idx"])
def test_every_truncated_or_flipped_file_is_named(corpus: Path, tmp_path: Path, suffix: str) -> None:
    whole = corpus.with_suffix(suffix).read_bytes()
    chosen = np.random.default_rng(3)
    damaged = [whole[: int(length)] for length in chosen.integers(0, len(whole), 12)]
    for position in chosen.integers(0, len(whole), 25):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << int(chosen.integers(8))
        damaged.append(bytes(flipped))
    for path in corpus.parent.glob("corpus.*"):
        shutil.copy(path, tmp_path)
    for data in damaged:
        (tmp_path / f"corpus{suffix}").write_bytes(data)
        with pytest.raises(CorpusError, match=rf"corpus\{suffix} (is|has)"):
            verify_corpus(tmp_path / "corpus")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_index_is_read_right_or_refused_even_without_checksums(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    prefix = tmp_path_factory.mktemp("damaged") / "corpus"
    write(prefix, [[[1, 2], [3]], [[4, 5, 6]]], np.uint16)
    index = bytearray(prefix.with_suffix(".idx").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        index[data.draw(st.integers(0, len(index) - 1))] = data.draw(st.integers(0, 255))
    prefix.with_suffix(".idx").write_bytes(index[: data.draw(st.integers(0, len(index)))])
    try:
        read = [token for document in read_ours(prefix) for row in document for token in row]
    except CorpusError as error:
        message, read = str(error), []
    if read:
        assert len(read) in (6, 3, 12)  # a dtype of another width that happens to fit
    else:
        assert str(prefix) in message


def test_ids_and_boundary_bytes_out_of_bounds_are_found_without_checksums(corpus: Path, tmp_path: Path) -> None:
    for path in corpus.parent.glob("corpus.*"):
        shutil.copy(path, tmp_path)
    description = json.loads((tmp_path / "corpus.json").read_text(encoding="utf-8"))
    (tmp_path / "corpus.json").write_text(json.dumps({"vocabulary": description["vocabulary"]}))
    verify_corpus(tmp_path / "corpus")
    whole = (tmp_path / "corpus.bin").read_bytes()
    (tmp_path / "corpus.bin").write_bytes(b"\xff\xff" + whole[2:])
    with pytest.raises(CorpusError, match=r"corpus\.bin has the id 65535 at token 0, but ids go from 0 to"):
        verify_corpus(tmp_path / "corpus")
    (tmp_path / "corpus.bin").write_bytes(whole)
    marks = (tmp_path / "corpus.seg").read_bytes()
    for byte, sentence in ((b"\x05", "above 4"), (b"\x00", "begins inside a unit")):
        (tmp_path / "corpus.seg").write_bytes(byte + marks[1:])
        with pytest.raises(CorpusError, match=sentence):
            verify_corpus(tmp_path / "corpus")


def test_a_writer_left_early_leaves_nothing(tmp_path: Path) -> None:
    with CorpusWriter(tmp_path / "corpus", np.dtype(np.uint16)) as writer:
        writer.add(np.array([1]), np.array([1]), np.array([1]), np.array([True]))
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_inspect_shows_counts_and_marked_sentences(corpus: Path, vocab: Path) -> None:
    lines = list(inspect_corpus(corpus, vocab, samples=400))
    assert "180 documents" in lines[0]
    assert any("[我们]去<北京大学>" in line for line in lines)
    assert any("[iphone15]" in line for line in lines)


def test_the_commands_work_as_their_help_says(
    text: Path, vocab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    assert cli.main(["corpus", "build", str(text), "--vocab", str(vocab), "--output", one, "--workers", "1"]) == 0
    assert "180 documents" in capsys.readouterr().out
    assert cli.main(["corpus", "merge", one, one, "--output", two]) == 0
    assert cli.main(["corpus", "verify", one, two]) == 0
    assert f"{two} is correct" in capsys.readouterr().out
    assert cli.main(["corpus", "inspect", two]) == 0
    assert "360 documents" in capsys.readouterr().out
    save_pair(tmp_path / "old", [[[1, 2]]])
    assert cli.main(["corpus", "convert", str(tmp_path / "old"), "--output", str(tmp_path / "new")]) == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["build", "absent.txt", "--vocab", "{vocab}", "--output", "{out}"], "absent.txt does not exist"),
        (["build", "{text}", "--vocab", "absent.txt", "--output", "{out}"], "absent.txt"),
        (
            ["build", "{text}", "--vocab", "{vocab}", "--output", "{out}", "--workers", "-1"],
            "--workers must be 0 or more",
        ),
        (["verify", "absent"], "there is no corpus absent"),
        (["convert", "a.gz", "--output", "{out}"], "need --vocab"),
    ],
)
def test_bad_input_is_one_sentence_and_status_two(
    text: Path, vocab: Path, tmp_path: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [each.format(text=text, vocab=vocab, out=tmp_path / "corpus") for each in arguments]
    assert cli.main(["corpus", *filled]) == 2
    message = capsys.readouterr().err.strip().splitlines()
    assert len(message) == 1
    assert message[0].startswith("ernie-train: ")
    assert sentence in message[0]
