"""Parts of a corpus never overlap and are never empty in silence."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.corpus.split import PARTS, split_documents


@given(st.integers(1, 5000), st.tuples(*[st.integers(1, 1000)] * 3))
def test_parts_follow_each_other_and_leave_nothing_out(count: int, shares: tuple[int, int, int]) -> None:
    split = ",".join(map(str, shares))
    found: list[int] = []
    for part, share in zip(PARTS, shares, strict=True):
        with contextlib.suppress(ValueError):  # too few documents; see below
            documents = split_documents(count, split, part, "a")
            found += documents
            assert documents
            assert abs(len(documents) - count * share / sum(shares)) <= 1
    assert found == list(range(count))


def test_a_part_that_would_be_empty_names_the_corpus_and_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"data/a has 12 documents.*its test part.*at least 1000 documents"):
        split_documents(12, "949,50,1", "test", "data/a")
    assert split_documents(12, "949,50,1", "train", "data/a") == range(11)


def test_a_part_without_a_share_cannot_be_asked_for() -> None:
    assert split_documents(7, "1", "train", "a") == range(7)
    with pytest.raises(ValueError, match="split 1 gives the test part of a no share"):
        split_documents(7, "1", "test", "a")


@pytest.mark.parametrize("split", ["", "a,b", "1,2,3,4", "-1,2", "0,0,0", "1/0"])
def test_a_split_that_is_none_is_refused(split: str) -> None:
    with pytest.raises(ValueError, match="split"):
        split_documents(10, split, "train", "a")


def test_another_part_is_refused() -> None:
    with pytest.raises(ValueError, match="not one of train, validation, test"):
        split_documents(10, "1", "dev", "a")
