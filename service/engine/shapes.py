"""Shapes of batches: any shape, or a few shapes for a runtime that compiles kernels for each shape.

OpenVINO compiles every shape that it has not run recently. That takes longer than the forward pass of a short text,
and at nano size 7 MB for every new product of rows and columns: with 400 shapes an int8 graph ran at 0.4 times its
speed and took 1.6 GB. If there are few shapes, the warm-up compiles all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class Shapes(Protocol):
    """The shapes that batches may have."""

    def length(self, tokens: int) -> int:
        """Columns of a batch whose longest row has `tokens`; may exceed the maximum length of the model."""

    def rows(self, items: int) -> int:
        """The number of rows of a batch that is chosen from `items` items."""

    def masks(self, count: int) -> int:
        """The padded number of mask positions for `count` positions."""

    def all(self, max_tokens: int, max_items: int, max_length: int) -> Iterator[tuple[int, int]]:
        """Rows and columns of every batch within these limits; empty if any shape is allowed."""


class AnyShape:
    """Any shape: batches are not padded beyond their longest row."""

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

    So no rows are added, and a row of 64 tokens or more is padded by an eighth at most. The runtime compiles every
    matrix product for each product of rows and columns, and there are few of these.
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
