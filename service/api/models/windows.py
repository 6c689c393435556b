"""Texts longer than the model, cut into windows that overlap.

`[CLS]` and `[SEP]` stand in each window, and the second text of a pair stands whole in each.
"""

from __future__ import annotations

from collections.abc import Sequence

from service.api.models.tokenization import Encoding

# Less room than this beside the second text of a pair is no context to speak of.
LEAST_ROOM = 16


class NoRoom(ValueError):
    """The second text of a pair leaves no room for windows of the first."""


def spans(length: int, room: int, overlap: int) -> list[tuple[int, int]]:
    """Where windows of `room` tokens begin and end in a text of `length`; neighbours share `overlap` or more.

    There are as few as possible, spread evenly. `overlap` must be less than `room`.
    """
    if length <= room:
        return [(0, length)]
    last = length - room
    count = -(-last // (room - overlap))
    return [(start, start + room) for start in (last * index // count for index in range(count + 1))]


class Windows:
    """One input as windows of at most `max_length` tokens that share a quarter of their room; one if it fits."""

    def __init__(self, whole: Encoding, max_length: int) -> None:
        """`whole` is the input encoded without a limit. Raises NoRoom."""
        self.whole = whole
        self._first = whole.token_type_ids.count(0) - 2  # tokens of the first text, which stands behind [CLS]
        self._tail = len(whole.input_ids) - self._first - 1  # [SEP], and the second text with its own
        room = max_length - 1 - self._tail
        if self._first > room and room < LEAST_ROOM:
            raise NoRoom
        self.spans = spans(self._first, room, room // 4)
        self.encodings = [whole] if len(self.spans) == 1 else [self._window(each) for each in range(len(self.spans))]
        """The model input of every window."""

    def _window(self, index: int) -> Encoding:
        start, end = self.spans[index]
        ids = [
            self.whole.input_ids[0],
            *self.whole.input_ids[start + 1 : end + 1],
            *self.whole.input_ids[-self._tail :],
        ]
        types = [0] * (end - start + 2) + [1] * (self._tail - 1)
        columns = [place for column in self.whole.mask_positions if (place := self.column(index, column)) is not None]
        return Encoding(ids, types, columns, len(columns), False, len(ids))

    def column(self, index: int, column: int) -> int | None:
        """Where a column of the whole stands in window `index`; None where it does not."""
        start, end = self.spans[index]
        if column > self._first:
            return column - self._first + end - start
        return column - start if start < column <= end else None

    def best_for(self, columns: Sequence[int]) -> int | None:
        """The window where `columns` of the whole have most context on their poorer side; None where none has all."""
        context = {
            index: self._context(index, columns)
            for index in range(len(self.spans))
            if all(self.column(index, column) is not None for column in columns)
        }
        return max(context, key=lambda index: (context[index], -index)) if context else None

    def _context(self, index: int, columns: Sequence[int]) -> int:
        start, end = self.spans[index]
        inside = [column for column in columns if column <= self._first] or [start + 1]
        # At an end of the text itself nothing is missing.
        left = min(inside) - start if start else len(self.whole.input_ids)
        right = end - max(inside) if end < self._first else len(self.whole.input_ids)
        return min(left, right)
