"""Windows cover the whole text, overlap, and put every mask where it has context."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.models.tokenization import Encoding
from service.api.models.windows import LEAST_ROOM, NoRoom, Windows, spans
from service.api.tasks.classify import of_windows

CLS, SEP, MASK = 1, 2, 3


def encoded(first: int, second: int | None = None, masks: tuple[int, ...] = ()) -> Encoding:
    """An input of so many tokens, each of which tells its place."""
    ids = [CLS, *range(100, 100 + first), SEP]
    types = [0] * len(ids)
    if second is not None:
        ids += [*range(10_000, 10_000 + second), SEP]
        types += [1] * (second + 1)
    for column in masks:
        ids[column] = MASK
    return Encoding(ids, types, sorted(masks), len(masks), False, len(ids), (first, second or 0))


@given(length=st.integers(1, 3000), room=st.integers(4, 300), share=st.floats(0, 0.9))
def test_spans_cover_every_token_and_overlap(length: int, room: int, share: float) -> None:
    overlap = int(room * share)
    found = spans(length, room, overlap)
    assert found[0][0] == 0
    assert found[-1][1] == length
    assert all(end - start == min(room, length) for start, end in found)
    assert all(before[1] - after[0] >= overlap for before, after in itertools.pairwise(found))
    assert all(before[0] < after[0] for before, after in itertools.pairwise(found))


@given(first=st.integers(1, 400), second=st.none() | st.integers(1, 30), limit=st.integers(60, 128))
def test_windows_are_inputs_of_their_own_that_put_together_are_the_text(
    first: int, second: int | None, limit: int
) -> None:
    whole = encoded(first, second)
    windows = Windows(whole, limit)
    seen: set[int] = set()
    for window in windows.encodings:
        assert len(window.input_ids) == len(window.token_type_ids) <= limit
        assert window.input_ids[0] == CLS
        text = [token for token, kind in zip(window.input_ids, window.token_type_ids, strict=True) if kind == 0]
        pair = [token for token, kind in zip(window.input_ids, window.token_type_ids, strict=True) if kind == 1]
        assert (text[0], text[-1]) == (CLS, SEP)
        assert text[1:-1] == list(range(text[1], text[1] + len(text) - 2))
        assert pair == ([] if second is None else [*range(10_000, 10_000 + second), SEP])
        seen |= set(text[1:-1])
    assert seen == set(range(100, 100 + first))
    if len(whole.input_ids) <= limit:
        assert windows.encodings == [whole]


@given(data=st.data(), first=st.integers(2, 400), second=st.none() | st.integers(2, 30))
def test_a_mask_is_filled_where_it_has_context_on_both_sides(
    data: st.DataObject, first: int, second: int | None
) -> None:
    in_second = second is not None and data.draw(st.booleans())
    column = data.draw(st.integers(first + 2, first + 1 + second)) if in_second and second else data.draw(
        st.integers(1, first)
    )  # fmt: skip
    whole = encoded(first, second, (column,))
    windows = Windows(whole, 96)
    best = windows.best_for([column])
    assert best is not None
    place = windows.column(best, column)
    assert place is not None
    window = windows.encodings[best]
    assert window.input_ids[place] == MASK
    assert place in window.mask_positions
    if not in_second:
        start, end = windows.spans[best]
        room = end - start
        assert start == 0 or column - start > room // 8
        assert end == first or end - column >= room // 8 - 1


def test_masks_too_far_apart_have_no_window() -> None:
    windows = Windows(encoded(500, None, (1, 500)), 96)
    assert windows.best_for([1, 500]) is None
    assert windows.best_for([1]) == 0


@pytest.mark.parametrize("swapped", [False, True])
def test_a_text_of_a_pair_that_leaves_no_room_for_the_longer_one_is_refused(swapped: bool) -> None:
    def pair(long: int, short: int) -> Encoding:
        return encoded(short, long) if swapped else encoded(long, short)

    with pytest.raises(NoRoom) as refused:
        Windows(pair(200, 96 - 3 - LEAST_ROOM + 1), 96)
    assert (refused.value.field, refused.value.room) == ("text" if swapped else "text_pair", LEAST_ROOM - 1)
    assert len(Windows(pair(200, 96 - 3 - LEAST_ROOM), 96).spans) > 1


@given(short=st.integers(1, 40), long=st.integers(100, 900), limit=st.integers(70, 192))
def test_the_longer_text_is_split_on_either_side_of_a_pair(short: int, long: int, limit: int) -> None:
    for first, second, kind in ((long, short, 0), (short, long, 1)):
        whole = encoded(first, second)
        windows = Windows(whole, limit)
        seen: set[int] = set()
        for number, window in enumerate(windows.encodings):
            assert len(window.input_ids) == len(window.token_type_ids) <= limit
            parts = [
                [token for token, each in zip(window.input_ids, window.token_type_ids, strict=True) if each == part]
                for part in (0, 1)
            ]
            assert (parts[0][0], parts[0][-1], parts[1][-1]) == (CLS, SEP, SEP)
            texts = parts[0][1:-1], parts[1][:-1]
            assert window.text_lengths == (len(texts[0]), len(texts[1]))
            assert len(texts[1 - kind]) == short
            seen |= set(texts[kind])
            for column, token in enumerate(whole.input_ids):
                place = windows.column(number, column)
                assert place is None or window.input_ids[place] == token
        assert len(seen) == long


def test_windows_count_by_their_tokens_and_a_single_one_is_left_as_it_is() -> None:
    assert of_windows([[0.25, 0.75]], [7], "softmax") == [0.25, 0.75]
    for scores in ("softmax", "raw"):
        assert of_windows([[1.0, 0.0], [0.0, 1.0]], [30, 10], scores) == [0.75, 0.25]


def test_a_label_applies_to_a_long_text_if_it_applies_to_one_window() -> None:
    assert of_windows([[0.9, 0.1], [0.2, 0.3]], [30, 10], "sigmoid") == [0.9, 0.3]
