"""Sentences and cleaning."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.corpus.cleaning import clean, sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("他说：“你好！”她走了。", ["他说：“你好！”", "她走了。"]),
        ("（完了。）下一句……还有？！走；停", ["（完了。）", "下一句……", "还有？！", "走；", "停"]),
        ("好吗?好的;再见", ["好吗?", "好的;", "再见"]),
        ("He said \"Hi.\" Then he left. 3.5 is a number.", ['He said "Hi."', "Then he left.", "3.5 is a number."]),
        ("Mr. Smith met J. K. Rowling. Prof. Li came.", ["Mr. Smith met J. K. Rowling.", "Prof. Li came."]),
        ("见http://a.b/c?d=1&amp;e=2。完", ["见http://a.b/c?d=1&amp;e=2。", "完"]),
        ("第一行\n第二行 \n\n", ["第一行", "第二行"]),
        ("", []),
    ],
)  # fmt: skip
def test_sentences_end_at_their_marks_with_the_quotes_that_close_after_them(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@given(st.text(alphabet='中a.。！!?；;”"）) \nA1', max_size=60))
def test_splitting_loses_nothing_but_white_space(text: str) -> None:
    assert re.sub(r"\s", "", "".join(sentences(text))) == re.sub(r"\s", "", text)


@given(st.lists(st.tuples(st.sampled_from("ab啊\n"), st.integers(1, 60)), max_size=6), st.integers(1, 30))
def test_a_run_is_cut_to_the_limit_and_shorter_ones_stay(runs: list[tuple[str, int]], limit: int) -> None:
    text = "".join(character * length for character, length in runs)
    expected = re.sub(r"([^\n])\1*", lambda run: run[0][:limit], text)
    assert clean(text, limit, plain_width=False) == expected


def test_full_width_letters_become_plain_only_when_asked() -> None:
    assert clean("ＡＢ１２，好", 0, plain_width=True) == "AB12，好"
    assert clean("ＡＢ１２，好", 0, plain_width=False) == "ＡＢ１２，好"
