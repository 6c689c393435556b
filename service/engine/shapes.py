"""Shapes of batches: any, or a few that are all met while warming up, where a runtime compiles kernels for each.

OpenVINO makes machine code for every shape that it has not met lately, which takes longer than the forward pass of a
short text, and at nano size 7 MB for every new product of rows and columns: 400 shapes of an int8 graph ran at 0.4
times its speed, and took 1.6 GB.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class Shapes(Protocol):
    """The shapes that batches may have."""

    def length(self, tokens: int) -> int:
        """Columns of a batch whose longest row has so many tokens; more than the model takes, perhaps."""

    def rows(self, items: int) -> int:
        """How many of so many items one batch takes."""

    def masks(self, count: int) -> int:
        """How many mask positions are given where there are so many."""

    def all(self, max_tokens: int, max_items: int, max_length: int) -> Iterator[tuple[int, int]]:
        """Rows and columns of every batch within these limits; of none where any shape will do."""


class AnyShape:
    """Batches are as large as what is in them."""

    def length(self, tokens: int) -> int:
        return tokens

    def rows(self, items: int) -> int:
        return items

    def masks(self, count: int) -> int:
        return count

    def all(self, max_tokens: int, max_items: int, max_length: int) -> Iterator[tuple[int, int]]:
        yield from ()


class FewShapes:
    """Rows are powers of two, columns multiples of 8, and of an eighth of the next lower power of two.

    So a row is padded by an eighth at most from 64 tokens on, no rows are added, and products of rows and columns, each
    of which is machine code of its own in every matrix product, are few.
    """

    def length(self, tokens: int) -> int:
        step = max(8, (1 << (tokens - 1).bit_length()) // 16)
        return -(-tokens // step) * step

    def rows(self, items: int) -> int:
        return 1 << (items.bit_length() - 1)

    def masks(self, count: int) -> int:
        return 1 << (count - 1).bit_length()

    def all(self, max_tokens: int, max_items: int, max_length: int) -> Iterator[tuple[int, int]]:
        length = 0
        while length < max_length:
            length = self.length(length + 1)
            rows = 1
            while rows == 1 or (rows <= max_items and rows * length <= max_tokens):
                yield rows, min(length, max_length)
                rows *= 2
