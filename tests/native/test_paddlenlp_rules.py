"""The rules `paddlenlp` give the ids of PaddleNLP's Python tokenizer.

The full comparison, every code point and all of the data, is `python -m benchmarks.training.paddlenlp_parity`.
"""

import unicodedata
from itertools import islice
from pathlib import Path

import pytest

pytest.importorskip("paddlenlp", reason="PaddleNLP is installed on Python 3.10 only")

from benchmarks.training.paddlenlp_parity import SPECIALS, Pair, all_characters, vocabulary_of, write_vocabulary
from benchmarks.training.text_lines import lines_of
from native import ErnieTokenizer, unicode_version

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
LISTED = "\xad\xb2\xba\u3007\xb5\xd8\u014b\u01b1"


@pytest.mark.skipif(
    unicode_version() != unicodedata.unidata_version,
    reason="this Python has another Unicode version than the one that built native; build native with it",
)
@pytest.mark.parametrize("lower_case", [True, False])
def test_symbols_and_a_sample_of_all_characters_have_the_ids_of_paddlenlp(tmp_path: Path, lower_case: bool) -> None:
    characters = all_characters()
    chosen = {each for each in characters if unicodedata.category(each)[0] in "SZ"} | {*LISTED, *characters[::199]}
    chosen |= {each for each in characters[:0x3000] if unicodedata.normalize("NFD", each) != each}
    pair = Pair(write_vocabulary(tmp_path / "vocab.txt", vocabulary_of(sorted(chosen))), lower_case=lower_case)
    assert [each for each in sorted(chosen) if not pair.equal(f"x{each}y")] == []


def test_texts_have_the_ids_of_paddlenlp(tmp_path: Path) -> None:
    texts = [
        "今天25℃，二〇〇八年",
        "m²和µm",
        "a[MASK]+b",
        "[PAD]好[SEP]",
        "ＧＯＯＤ①",
        "x" * 101,
        "ΣΑΣ Å é",
        "\u2028a\u200bb",
    ]
    pair = Pair(write_vocabulary(tmp_path / "vocab.txt", vocabulary_of("".join(texts))))
    for text in texts:
        assert pair.equal(text), text


@pytest.mark.skipif(not DATA.is_dir(), reason=f"the published data sets are missing; put them into {DATA}")
def test_lines_of_real_text_have_the_ids_of_paddlenlp() -> None:
    pair = Pair(DATA / "vocab" / "ernie-3.0.vocab.txt")
    lines = list(islice(lines_of(DATA), 0, None, 1999))
    assert len(lines) > 300
    assert [line for line in lines if not pair.equal(line)] == []


def test_the_rules_differ_at_symbols_and_at_the_listed_letters_only() -> None:
    tokens = [*SPECIALS, "5", "##5", "℃", "##℃", "〇", "##〇", "ø", "##ø", "年"]
    bert, paddlenlp = (ErnieTokenizer(tokens, rules=rules) for rules in ("bert", "paddlenlp"))

    def read(tokenizer: ErnieTokenizer, text: str) -> list[str]:
        return [tokens[token] for token in tokenizer.encode(text, add_special_tokens=False).ids]

    assert read(bert, "5℃") == ["5", "##℃"]
    assert read(paddlenlp, "5℃") == ["5", "℃"]
    assert read(bert, "〇〇5年") == ["〇", "##〇", "##5", "年"]
    assert read(paddlenlp, "〇〇5年") == ["〇", "〇", "5", "年"]
    # Ø is in PaddleNLP's list, but letters are lowered first, and ø is not.
    assert read(paddlenlp, "5Ø") == read(bert, "5Ø") == ["5", "##ø"]
