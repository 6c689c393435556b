"""Both tokenizers of the service against an independent WordPiece; long texts, masks, and what aborts one."""

import asyncio
import importlib.util
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import BertWordPieceTokenizer

from model_build.bundle import BundleError
from service.api.models.tokenization import (
    LONG_CHARACTERS,
    MASK,
    NativeTokenizer,
    Tokenizer,
    TokenizerName,
    tokenizer_named,
)
from tests.service.stand_in import CHARACTERS, TOKENS

needs_fast = pytest.mark.skipif(
    importlib.util.find_spec("fast_tokenizer") is None,
    reason="fast-tokenizer-python has no wheel for this Python; Python 3.10 runs this",
)
BOTH = ["native", pytest.param("fast_tokenizer", marks=needs_fast)]

WORDS = ["ok", "okay", "a", "today", "12", "3", "-", ".", "(", ")"]
VOCABULARY = [*TOKENS, "t", "##o", "##d", "##a", "##y", "1", "##2", "3", "-", ".", "(", ")", "##k"]


@pytest.fixture(scope="module")
def vocab_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    path.write_text("\n".join(VOCABULARY), encoding="utf-8")
    return path


@pytest.fixture(scope="module", params=BOTH)
def tokenizer(request: pytest.FixtureRequest, vocab_path: Path) -> Tokenizer:
    return tokenizer_named(request.param, vocab_path)


@pytest.fixture(scope="module")
def reference(vocab_path: Path) -> BertWordPieceTokenizer:
    return BertWordPieceTokenizer(str(vocab_path), lowercase=True)


texts = st.lists(st.sampled_from([*CHARACTERS, *WORDS, " ", "\n", MASK, "鑫", "É", "OK"]), max_size=40).map("".join)


@settings(deadline=None)
@given(text=texts)
def test_ids_equal_those_of_huggingface_tokenizers(
    tokenizer: Tokenizer, reference: BertWordPieceTokenizer, text: str
) -> None:
    assert tokenizer.pieces(text) == reference.encode(text, add_special_tokens=False).ids


async def test_a_pair_is_laid_out_with_both_separators_and_its_types(
    tokenizer: Tokenizer, reference: BertWordPieceTokenizer
) -> None:
    encoding = await tokenizer.encode("今天气", "真[MASK]好", 32)
    expected = reference.encode("今天气", "真[MASK]好")
    assert encoding.input_ids == expected.ids
    assert encoding.token_type_ids == expected.type_ids
    assert encoding.mask_positions == [expected.ids.index(tokenizer.mask_id)]
    assert (encoding.truncated, encoding.full_length) == (False, 9)


@settings(deadline=None)
@given(text=st.text(st.sampled_from([*CHARACTERS, "a", "[", "]", "M", "\x00", "\u0301", "\u200b"])) | texts)
def test_masks_are_found_where_and_only_where_they_are_written(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.pieces(text).count(tokenizer.ids[MASK]) == text.count(MASK)


hostile = st.text(st.sampled_from("今a []\u023a\u023e\U0010023a\U0010023e\u0130\ufdfa\u0301\x00"), max_size=40)


@settings(deadline=None, max_examples=300)
@given(before=hostile, after=hostile)
def test_letters_that_grow_when_small_do_not_abort_the_process(tokenizer: Tokenizer, before: str, after: str) -> None:
    """Where this fails, the whole test run dies: the library calls abort()."""
    assert tokenizer.pieces(f"{before}{MASK}{after}").count(tokenizer.ids[MASK]) == 1


async def test_a_text_that_goes_to_a_thread_is_encoded_as_a_short_one(tokenizer: Tokenizer) -> None:
    long, short = await asyncio.gather(
        tokenizer.encode("今天" * LONG_CHARACTERS, "好", 16), tokenizer.encode("今天" * 100, "好", 16)
    )
    assert (long.input_ids, long.token_type_ids) == (short.input_ids, short.token_type_ids)
    assert (long.truncated, long.full_length) == (True, 2 * LONG_CHARACTERS + 4)


def test_the_tokenizer_that_is_not_chosen_is_not_imported() -> None:
    code = "import sys, service.api.app; assert 'native' in sys.modules and 'fast_tokenizer' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


async def test_other_tasks_run_while_a_long_text_is_encoded(tokenizer: Tokenizer) -> None:
    text = "今天气真好" * 20_000
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    running = asyncio.create_task(others())
    begun = time.perf_counter()
    await tokenizer.encode(text, None, 32)
    expected = 1 if isinstance(tokenizer, NativeTokenizer) else len(text) // 2000
    assert turns >= expected, f"{turns} turns in {time.perf_counter() - begun:.3f} s"
    running.cancel()


async def test_a_mask_that_is_cut_off_is_still_counted(tokenizer: Tokenizer) -> None:
    encoding = await tokenizer.encode("今[MASK]" + "天" * 40 + "[MASK]", None, 16)
    assert (encoding.masks, encoding.mask_positions) == (2, [2])
    assert (encoding.truncated, encoding.full_length, len(encoding.input_ids)) == (True, 45, 16)


@pytest.mark.parametrize("name", BOTH)
def test_a_vocabulary_without_a_separator_is_refused_by_name(tmp_path: Path, name: TokenizerName) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text("[PAD]\n[CLS]\n[UNK]\n好", encoding="utf-8")
    with pytest.raises(BundleError, match=r"has no \[SEP\]"):
        tokenizer_named(name, path)
