"""Splits texts that are longer than the model allows into overlapping windows.

Each window contains `[CLS]`, `[SEP]`, and the complete shorter text of a pair.
"""

from __future__ import annotations

from collections.abc import Sequence

from service.api.models.tokenization import Encoding

# With less room than this for the longer text of a pair, a window has too little context.
LEAST_ROOM = 16


class NoRoom(ValueError):
    """One text of a pair leaves no room for windows of the other."""

    def __init__(self, field: str, room: int) -> None:
        """`field`, text or text_pair, leaves `room` tokens in a window."""
        super().__init__(field, room)
        self.field = field
        self.room = room


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
    """One input as windows of at most `max_length` tokens; neighbours share a quarter of their room.

    The longer text of a pair is split. Each window contains the other text as a whole.
    """

    def __init__(self, whole: Encoding, max_length: int) -> None:
        """`whole` is the input encoded without a limit. Raises NoRoom."""
        self.whole = whole
        first, second = whole.text_lengths
        self.split, other = ("text", "text_pair") if first >= second else ("text_pair", "text")
        """The field of the input that is split."""
        self._begin = 1 if self.split == "text" else first + 2
        self._length = max(first, second)
        self.room = max_length - len(whole.input_ids) + self._length
        """Tokens of the split text in a window."""
        if self._length > self.room and self.room < LEAST_ROOM:
            raise NoRoom(other, max(0, self.room))
        self.spans = spans(self._length, self.room, self.room // 4)
        self.encodings = [whole] if len(self.spans) == 1 else [self._window(each) for each in range(len(self.spans))]
        """The model input of every window."""

    def _window(self, index: int) -> Encoding:
        def cut(row: list[int]) -> list[int]:
            begin = self._begin
            return row[:begin] + row[begin + start : begin + end] + row[begin + self._length :]

        start, end = self.spans[index]
        ids, first_and_second = cut(self.whole.input_ids), list(self.whole.text_lengths)
        first_and_second[self.split == "text_pair"] = end - start
        columns = [place for column in self.whole.mask_positions if (place := self.column(index, column)) is not None]
        lengths = first_and_second[0], first_and_second[1]
        return Encoding(
            ids, cut(self.whole.token_type_ids), columns, len(columns), False, len(ids), lengths, self.whole.unknown
        )

    def column(self, index: int, column: int) -> int | None:
        """The column in window `index` of a column of the whole input; None if the window does not contain it."""
        start, end = self.spans[index]
        place = column - self._begin
        if place < 0:
            return column
        if place >= self._length:
            return column - self._length + end - start
        return column - start if start <= place < end else None

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
        places = [column - self._begin for column in columns]
        inside = [place for place in places if 0 <= place < self._length] or [start]
        # At an end of the text itself no context is missing.
        left = min(inside) + 1 - start if start else len(self.whole.input_ids)
        right = end - 1 - max(inside) if end < self._length else len(self.whole.input_ids)
        return min(left, right)
