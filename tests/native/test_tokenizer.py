"""The native tokenizer: layout, truncation, padding, offsets, vocabularies, threads, and errors for wrong input."""

import pickle
import threading
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing

from model_build.bundle import read_vocabulary as read_bundle_vocabulary
from native import ErnieTokenizer, unicode_version
from native.vocabulary import read_vocabulary

VOCABULARIES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "vocab"
TOKENS = [
    "[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]", "今", "天", "气", "好", "，", "[", "]", "a", "b", "ab", "##a", "##b",
    "##bc", "mask", "hello", "##o", "e", "##e", "1", "##2", "가", "\u1100", "##\u1161", "'", "-", "$", "ı", "i",
]  # fmt: skip
IDS = {token: index for index, token in enumerate(TOKENS)}


@pytest.fixture(scope="module")
def tokenizer() -> ErnieTokenizer:
    return ErnieTokenizer(TOKENS)


def pieces(tokenizer: ErnieTokenizer, text: str) -> list[str]:
    return [tokenizer.id_to_token(index) for index in tokenizer.encode(text, add_special_tokens=False).ids]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("今天，好", "今 天 ， 好"),
        ("今ab天aab", "今 ab 天 a ##a ##b"),
        ("abc", "[UNK]"),  # the longest piece first, without backtracking
        ("HELLO Héllo", "hello hello"),
        ("hello\u200bo\x00", "hello ##o"),
        ("a\u3000b\na\u2028b", "a b a b"),
        ("\ufffda", "a"),
        ("a-b$", "a - b $"),
        ("abx 今", "[UNK] 今"),
        ("[MASK]a[mask]", "[MASK] a [ mask ]"),
        ("今[MASK", "今 [ mask"),
        ("가 \u1100\u1161", "\u1100 ##\u1161 \u1100 ##\u1161"),
        ("\ud800a\udfff", "a"),
        ("\U0010ffff", ""),
        ("", ""),
    ],
)
def test_a_text_is_split_into_these_pieces(tokenizer: ErnieTokenizer, text: str, expected: str) -> None:
    assert pieces(tokenizer, text) == expected.split()


def test_a_word_of_more_than_a_hundred_characters_is_unknown(tokenizer: ErnieTokenizer) -> None:
    assert pieces(tokenizer, "a" * 100) == ["a"] + ["##a"] * 99
    assert pieces(tokenizer, "a" * 101) == ["[UNK]"]
    assert tokenizer.encode(f"b {'a' * 101}", add_special_tokens=False).offsets == [(0, 1), (2, 103)]


def test_settings_change_the_treatment_of_case_accents_and_chinese() -> None:
    plain = ErnieTokenizer([*TOKENS, "É", "é"], lower_case=False)
    assert (plain.lower_case, plain.strip_accents, plain.split_cjk) == (False, False, True)
    assert pieces(plain, "É é E") == ["É", "é", "[UNK]"]
    kept = ErnieTokenizer([*TOKENS, "é"], strip_accents=False)
    assert pieces(kept, "É") == ["é"]
    stripped = ErnieTokenizer([*TOKENS, "E"], lower_case=False, strip_accents=True)
    assert pieces(stripped, "É") == ["E"]
    joined = ErnieTokenizer([*TOKENS, "##天"], split_cjk=False)
    assert pieces(joined, "今天 天") == ["今", "##天", "天"]


def test_offsets_are_characters_of_the_original_text(tokenizer: ErnieTokenizer) -> None:
    text = "今 Héllo\u0301o\U0001f600[MASK]가"
    encoding = tokenizer.encode(text)
    written = [text[start:end] for start, end in encoding.offsets]
    assert written == ["", "今", "Héllo\u0301o\U0001f600", "[MASK]", "가", "가", ""]
    assert encoding.special_tokens_mask == [1, 0, 0, 0, 0, 0, 1]


def hugging_face(*, special: bool = True) -> Tokenizer:
    made = Tokenizer(WordPiece(IDS, unk_token="[UNK]"))
    made.normalizer = BertNormalizer(lowercase=True)
    made.pre_tokenizer = BertPreTokenizer()
    made.post_processor = BertProcessing(("[SEP]", IDS["[SEP]"]), ("[CLS]", IDS["[CLS]"]))
    if special:
        made.add_special_tokens(["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"])
    return made


texts = st.text(st.sampled_from("今天气好，ab [1é\u0301\t가-]E"), max_size=30) | st.lists(
    st.sampled_from(["[MASK]", "[SEP]", "今天", "hello", "abc", " ", "[", "\U0001f600"]), max_size=8
).map("".join)


@given(text=texts, pair=st.none() | texts)
def test_a_text_or_pair_has_the_layout_of_the_tokenizers_package(
    tokenizer: ErnieTokenizer, text: str, pair: str | None
) -> None:
    ours, theirs = tokenizer.encode(text, pair), hugging_face().encode(text, pair)
    assert ours.ids == theirs.ids
    assert ours.token_type_ids == theirs.type_ids
    assert ours.offsets == theirs.offsets
    assert ours.special_tokens_mask == theirs.special_tokens_mask
    assert (len(ours), ours.full_length, ours.overflow, ours.truncated) == (len(theirs), len(theirs), 0, False)


def truncated_one_by_one(first: int, second: int, room: int) -> tuple[int, int]:
    while first + second > room:
        if first > second:
            first -= 1
        else:
            second -= 1
    return first, second


@given(first=st.integers(0, 40), second=st.integers(0, 40), max_length=st.integers(3, 90))
def test_the_longer_text_is_truncated_first_one_token_at_a_time(
    tokenizer: ErnieTokenizer, first: int, second: int, max_length: int
) -> None:
    encoding = tokenizer.encode("今" * first, "天" * second, max_length=max_length)
    keep_first, keep_second = truncated_one_by_one(first, second, max_length - 3)
    assert encoding.ids == [1, *[IDS["今"]] * keep_first, 2, *[IDS["天"]] * keep_second, 2]
    assert encoding.token_type_ids == [0] * (keep_first + 2) + [1] * (keep_second + 1)
    assert encoding.full_length == first + second + 3
    assert encoding.overflow == first + second - keep_first - keep_second
    assert encoding.truncated == (first + second + 3 > max_length)


def test_only_first_and_only_second_truncate_that_text_alone(tokenizer: ErnieTokenizer) -> None:
    def kept(truncation: Any) -> tuple[int, int]:
        ids = tokenizer.encode("今" * 9, "天" * 7, max_length=13, truncation=truncation).ids
        return ids.count(IDS["今"]), ids.count(IDS["天"])

    assert kept("only_first") == (3, 7)
    assert kept("only_second") == (9, 1)
    assert kept("none") == (9, 7)
    with pytest.raises(ValueError, match=r"second text alone has 7 tokens, but max_length leaves room for 5"):
        tokenizer.encode("今", "天" * 7, max_length=8, truncation="only_first")


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(texts, texts), max_size=5),
    paired=st.booleans(),
    max_length=st.none() | st.integers(3, 20),
    padding=st.sampled_from(["longest", "max_length"]),
    multiple=st.none() | st.integers(1, 9),
    dtype=st.sampled_from(["int64", np.int32]),
)
def test_a_batch_has_the_rows_of_encode_with_padding(
    tokenizer: ErnieTokenizer,
    rows: list[tuple[str, str]],
    paired: bool,
    max_length: int | None,
    padding: Any,
    multiple: int | None,
    dtype: Any,
) -> None:
    firsts, seconds = [first for first, _ in rows], [second for _, second in rows] if paired else None
    if padding == "max_length" and max_length is None:
        max_length = 12
    batch = tokenizer.encode_batch(
        firsts, seconds, max_length=max_length, padding=padding, pad_to_multiple_of=multiple, dtype=dtype
    )
    alone = [tokenizer.encode(first, second if paired else None, max_length=max_length) for first, second in rows]
    width = max_length if padding == "max_length" else max(map(len, alone), default=0)
    assert width is not None
    width += -width % (multiple or 1)

    def filled(lists: Sequence[list[int]]) -> np.ndarray:
        return np.array([each + [0] * (width - len(each)) for each in lists], dtype=dtype).reshape(len(rows), width)

    for array, lists in (
        (batch.input_ids, [each.ids for each in alone]),
        (batch.token_type_ids, [each.token_type_ids for each in alone]),
        (batch.attention_mask, [[1] * len(each) for each in alone]),
    ):
        assert array.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(array, filled(lists))
    assert batch.lengths.tolist() == [len(each) for each in alone]
    assert batch.full_lengths.tolist() == [each.full_length for each in alone]


def test_arrays_have_the_types_that_numpy_names(tokenizer: ErnieTokenizer) -> None:
    """NumPy has two 64-bit integer types on Linux, which are equal; some libraries accept only `np.int64`."""
    batch = tokenizer.encode_batch(["今天", "天"])
    _, splits, _ = tokenizer.encode_flat(["今天"])
    for array in (
        batch.input_ids, batch.token_type_ids, batch.attention_mask, batch.lengths, batch.full_lengths, splits,
    ):  # fmt: skip
        assert array.dtype.num == np.dtype(np.int64).num


@given(given_texts=st.lists(texts, max_size=6), special=st.booleans())
def test_flat_ids_are_those_of_each_text_with_the_positions_of_their_first_characters(
    tokenizer: ErnieTokenizer, given_texts: list[str], special: bool
) -> None:
    ids, splits, starts = tokenizer.encode_flat(given_texts, special_tokens=special)
    reference = hugging_face(special=special)
    assert (ids.dtype, splits.dtype, starts.dtype) == (np.int32, np.int64, np.int32)
    assert len(splits) == len(given_texts) + 1
    for text, begin, end in zip(given_texts, splits, splits[1:], strict=False):
        expected = reference.encode(text, add_special_tokens=False)
        assert ids[begin:end].tolist() == expected.ids
        assert starts[begin:end].tolist() == [start for start, _ in expected.offsets]


def test_a_special_token_in_the_text_of_a_corpus_is_ordinary_text_by_default(tokenizer: ErnieTokenizer) -> None:
    ids, _, _ = tokenizer.encode_flat(["今[MASK]天[SEP]"])
    assert not {1, 2, 3} & set(ids.tolist())
    ids, _, _ = tokenizer.encode_flat(["今[MASK]天[SEP]"], special_tokens=True)
    assert ids.tolist() == [IDS["今"], 3, IDS["天"], 2]


@settings(max_examples=300)
@given(text=st.text(st.characters(exclude_categories=())))
def test_all_code_points_are_accepted_and_offsets_are_within_the_text(tokenizer: ErnieTokenizer, text: str) -> None:
    encoding = tokenizer.encode(text, add_special_tokens=False)
    assert all(0 <= start < end <= len(text) for start, end in encoding.offsets)
    assert encoding.offsets == sorted(encoding.offsets)


def test_threads_that_share_a_tokenizer_get_the_same_ids_as_a_single_thread(tokenizer: ErnieTokenizer) -> None:
    inputs = ["今天[MASK]气ab，" * (300 + number) for number in range(6)]
    expected = [tokenizer.encode(text).ids for text in inputs]
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(40):
            batch = tokenizer.encode_batch(inputs)
            if (
                tokenizer.encode(inputs[number]).ids != expected[number]
                or batch.input_ids[number, : batch.lengths[number]].tolist() != expected[number]
            ):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_list_may_change_while_it_is_encoded(tokenizer: ErnieTokenizer) -> None:
    shared = ["今天" * 50_000 + str(number) for number in range(20)]
    expected = tokenizer.encode_flat(shared)[0].tolist()
    results: list[list[int]] = []
    thread = threading.Thread(target=lambda: results.append(tokenizer.encode_flat(shared)[0].tolist()))
    thread.start()
    shared_again = list(shared)
    while thread.is_alive():
        shared[:] = [text + "" for text in shared_again]
    thread.join()
    assert results == [expected]


def test_an_unpickled_tokenizer_equals_the_original(tokenizer: ErnieTokenizer) -> None:
    strange = ErnieTokenizer([*TOKENS, "\ud800"], lower_case=False, strip_accents=True, split_cjk=False)
    for each in (tokenizer, strange):
        back = pickle.loads(pickle.dumps(each))
        assert back.tokens == each.tokens
        assert (back.lower_case, back.strip_accents, back.split_cjk) == (
            each.lower_case,
            each.strip_accents,
            each.split_cjk,
        )
        assert back.encode("今天Éb").ids == each.encode("今天Éb").ids


def test_tokens_and_ids_can_be_converted_both_ways(tokenizer: ErnieTokenizer) -> None:
    assert tokenizer.tokens == TOKENS
    assert len(tokenizer) == tokenizer.vocab_size == len(TOKENS)
    assert all(tokenizer.token_to_id(token) == index for index, token in enumerate(TOKENS))
    assert tokenizer.token_to_id("不在") is None
    special = (tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id, tokenizer.unk_id)
    assert special == (0, 1, 2, 3, 4)
    assert ErnieTokenizer(["[CLS]", "[SEP]", "[UNK]"]).mask_id is None
    for wrong in (-1, len(TOKENS)):
        with pytest.raises(IndexError, match=f"no token with id {wrong}"):
            tokenizer.id_to_token(wrong)


def test_a_token_that_occurs_twice_has_its_last_id() -> None:
    twice = ErnieTokenizer([*TOKENS, "今", "今"])
    assert twice.duplicates == 2
    assert twice.token_to_id("今") == len(TOKENS) + 1
    assert twice.encode("今", add_special_tokens=False).ids == [len(TOKENS) + 1]


def test_the_unicode_tables_are_those_of_this_interpreter() -> None:
    assert unicode_version() == unicodedata.unidata_version


@pytest.mark.skipif(
    not VOCABULARIES.is_dir(), reason=f"the published vocabularies are missing; put them into {VOCABULARIES}"
)
@pytest.mark.parametrize(
    ("name", "size", "duplicates", "newline_missing"), [("ernie-1.0", 17964, 0, False), ("ernie-3.0", 39980, 1, True)]
)
def test_published_vocabularies_load(name: str, size: int, duplicates: int, newline_missing: bool) -> None:
    path = VOCABULARIES / f"{name}.vocab.txt"
    loaded = ErnieTokenizer.from_file(path)
    assert loaded.tokens == read_bundle_vocabulary(path)
    assert (loaded.vocab_size, loaded.duplicates, loaded.missing_final_newline) == (size, duplicates, newline_missing)


@settings(deadline=None)
@given(
    content=st.binary(max_size=20)
    | st.lists(st.sampled_from(["a", "\t0", "\t1", "\n", "\r", "\r\n", "好", "\t", "\ud800", " "]), max_size=12).map(
        lambda parts: "".join(parts).encode("utf-8", "surrogatepass")
    )
)
def test_native_and_model_build_read_every_vocabulary_file_alike(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "either.txt"
    path.write_bytes(content)
    results: list[list[str] | str] = []
    for read in (read_bundle_vocabulary, lambda path: read_vocabulary(path).tokens):
        try:
            results.append(read(path))
        except ValueError as error:
            results.append(str(error))
    assert results[0] == results[1]


def test_the_error_for_a_vocabulary_file_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text("[CLS]\n\n[SEP]", encoding="utf-8")
    with pytest.raises(ValueError, match=r"vocab\.txt: line 2 must hold the token with id 1"):
        ErnieTokenizer.from_file(path)
    path.write_text("[CLS]\n[UNK]", encoding="utf-8")
    with pytest.raises(ValueError, match=r"vocab\.txt: the vocabulary has no \[SEP\]\."):
        ErnieTokenizer.from_file(path)
    with pytest.raises(FileNotFoundError):
        ErnieTokenizer.from_file(tmp_path / "absent")


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda _: ErnieTokenizer(["[UNK]", "[CLS]"]), ValueError, r"has no \[SEP\]"),
        (lambda _: ErnieTokenizer([*TOKENS, ""]), ValueError, f"token {len(TOKENS)} is empty"),
        (lambda _: ErnieTokenizer([*TOKENS, 3]), TypeError, rf"tokens\[{len(TOKENS)}\] must be a str, not int"),
        (lambda _: ErnieTokenizer("abc"), TypeError, "tokens must be a list of str, not str"),
        (lambda each: each.encode(3), TypeError, "text must be a str, not int"),
        (lambda each: each.encode("a", b"a"), TypeError, "pair must be a str, not bytes"),
        (lambda each: each.encode("a", truncation="middle"), ValueError, "truncation must be longest_first"),
        (lambda each: each.encode("a", max_length=1), ValueError, "is 1, but the special tokens alone need 2"),
        (lambda each: each.encode("a", "b", max_length=-1), ValueError, "the special tokens alone need 3"),
        (lambda each: each.encode_flat("今天"), TypeError, "texts must be a list of str, not str"),
        (lambda each: each.encode_flat(["a", None]), TypeError, r"texts\[1\] must be a str, not NoneType"),
        (lambda each: each.encode_batch({"a"}), TypeError, "texts must be a list of str, not set"),
        (lambda each: each.encode_batch(["a"], []), ValueError, "there are 1 texts, but 0 pairs"),
        (lambda each: each.encode_batch(["a"], padding="left"), ValueError, "padding must be longest or max_length"),
        (lambda each: each.encode_batch(["a"], padding="max_length"), ValueError, "max_length is not given"),
        (lambda each: each.encode_batch(["a"], pad_to_multiple_of=0), ValueError, "pad_to_multiple_of must be between"),
        (lambda each: each.encode_batch(["a"], dtype="float32"), ValueError, "must be int64 or int32, not float32"),
        (lambda _: ErnieTokenizer(TOKENS[1:]).encode_batch(["a", ""]), ValueError, r"has no \[PAD\]"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused_in_one_sentence(
    tokenizer: ErnieTokenizer, call: Any, error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        call(tokenizer)
