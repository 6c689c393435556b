"""Splits texts that are longer than the model allows into overlapping windows.

Each window contains `[CLS]`, `[SEP]`, and the complete second text of a pair.
"""

from __future__ import annotations

from collections.abc import Sequence

from service.api.models.tokenization import Encoding

# With less room than this for the first text of a pair, a window has too little context.
LEAST_ROOM = 16


class NoRoom(ValueError):
    """The second text of a pair leaves no room for windows of the first."""


def spans(length: int, room: int, overlap: int) -> list[tuple[int, int]]:
    """Begin and end of the windows of `room` tokens in a text of `length`; neighbours share at least `overlap`.

    The number of windows is as small as possible, and they are spread evenly. `overlap` must be less than `room`.
    """
    if length <= room:
        return [(0, length)]
    last = length - room
    count = -(-last // (room - overlap))
    return [(start, start + room) for start in (last * index // count for index in range(count + 1))]


class Windows:
    """One input as windows of at most `max_length` tokens; neighbours share a quarter of their room."""

    def __init__(self, whole: Encoding, max_length: int) -> None:
        """`whole` is the input encoded without a limit. Raises NoRoom."""
        self.whole = whole
        self._first = whole.token_type_ids.count(0) - 2  # tokens of the first text, which follows [CLS]
        self._tail = len(whole.input_ids) - self._first - 1  # [SEP], and the second text with its [SEP]
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
        """The column in window `index` of a column of the whole input; None if the window does not contain it."""
        start, end = self.spans[index]
        if column > self._first:
            return column - self._first + end - start
        return column - start if start < column <= end else None

    def best_for(self, columns: Sequence[int]) -> int | None:
        """The window with the most context for `columns` of the whole input; None if no window contains all of them.

        The context of a window is the number of tokens on the side of the columns that has fewer."""
        context = {
            index: self._context(index, columns)
            for index in range(len(self.spans))
            if all(self.column(index, column) is not None for column in columns)
        }
        return max(context, key=lambda index: (context[index], -index)) if context else None

    def _context(self, index: int, columns: Sequence[int]) -> int:
        start, end = self.spans[index]
        inside = [column for column in columns if column <= self._first] or [start + 1]
        # At an end of the text itself no context is missing.
        left = min(inside) - start if start else len(self.whole.input_ids)
        right = end - max(inside) if end < self._first else len(self.whole.input_ids)
        return min(left, right)
