"""Inputs that ended an engine: they are refused afterwards, so no input ends an engine twice.

Before a pass, the engine writes the hashes of its items to memory that it shares with the supervisor and with the
engines that follow. After the pass, it removes them. An engine that starts therefore finds what its predecessor was
running when it died:

- One item alone in the only running pass: the item is refused from now on.
- Several items: each is a suspect. A suspect runs alone, without other passes, and is cleared when its pass finishes.
- The predecessor was killed from outside (by a user, or because the machine had no memory left): its items are suspects
  even if there was only one. A suspect that was running alone is refused.

The shared memory is a file without a name (memfd_create(2)), so it does not need the temporary folder. The numbers in
it are 8 bytes each: the refused hashes, the suspects, then one slot for each stream.

    count of refused | count of suspects | 1024 refused | 1024 suspects | slot of stream 0 | slot of stream 1 | …
    slot: count of items | max_items hashes
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from service.messages.inference import Item

MAX_HASHES = 1024
"""Number of refused items and of suspects that are kept; the oldest are forgotten first."""
_NUMBER = 8
_LISTS = struct.Struct(f"<2q{2 * MAX_HASHES}q")


def item_hash(item: Item) -> int:
    """64 bits of everything that reaches the graph. Python's hash of integers is the same in all processes."""
    return hash((tuple(item.input_ids), tuple(item.token_type_ids), tuple(item.mask_positions), tuple(item.target_ids)))


class Quarantine:
    """The refused items and the suspects of one load of a model."""

    def __init__(self, file: int | None, streams: int, max_items: int, killed: bool = False) -> None:
        """`file` is the descriptor of the shared memory; None: nothing is shared, for an engine without a supervisor.

        `max_items` is the largest number of items in a pass. `killed`: the engine before was killed from outside.
        """
        self.refused: dict[int, None] = {}
        self.suspects: dict[int, None] = {}
        self._slot = struct.Struct(f"<q{max_items}q")
        size = _LISTS.size + streams * self._slot.size
        if file is not None:
            found = os.fstat(file).st_size
            os.ftruncate(file, max(size, found))
        self._memory = mmap.mmap(-1, size) if file is None else mmap.mmap(file, max(size, found))
        self._read_lists()
        self._judge([hashes for hashes in self._slots() if hashes], killed)
        self._memory[_LISTS.size :] = bytes(len(self._memory) - _LISTS.size)
        self._write_lists()

    def refuses(self, items: Iterable[Item]) -> bool:
        """Whether one of the items ended an engine."""
        return bool(self.refused) and any(item_hash(item) in self.refused for item in items)

    def suspects_any(self, items: Iterable[Item]) -> bool:
        """Whether one of the items was running with others when an engine died."""
        return bool(self.suspects) and any(item_hash(item) in self.suspects for item in items)

    def clear(self, items: Iterable[Item]) -> None:
        """Records that a pass of these items has finished."""
        if self.suspects:
            before = len(self.suspects)
            for item in items:
                self.suspects.pop(item_hash(item), None)
            if len(self.suspects) < before:
                self._write_lists()

    @contextmanager
    def running(self, stream: int, items: Sequence[Item]) -> Iterator[None]:
        """Records that these items run. The slot keeps them if the process ends before this block does."""
        place = _LISTS.size + stream * self._slot.size
        struct.pack_into(f"<{len(items) + 1}q", self._memory, place, len(items), *map(item_hash, items))
        try:
            yield
        finally:
            self._memory[place : place + _NUMBER] = bytes(_NUMBER)

    def _judge(self, passes: list[list[int]], killed: bool) -> None:
        """Decides what becomes of the items that the engine before was running."""
        alone = passes[0][0] if len(passes) == 1 and len(passes[0]) == 1 else None
        if alone is not None and (alone in self.suspects or not killed):
            self.suspects.pop(alone, None)
            _add(self.refused, [alone])
        else:
            _add(self.suspects, (each for hashes in passes for each in hashes))

    def _slots(self) -> Iterator[list[int]]:
        for place in range(_LISTS.size, len(self._memory) - self._slot.size + 1, self._slot.size):
            count, *hashes = self._slot.unpack_from(self._memory, place)
            yield hashes[:count]

    def _read_lists(self) -> None:
        refused, suspects, *hashes = _LISTS.unpack_from(self._memory, 0)
        self.refused = dict.fromkeys(hashes[:refused])
        self.suspects = dict.fromkeys(hashes[MAX_HASHES : MAX_HASHES + suspects])

    def _write_lists(self) -> None:
        lists = [[*each, *[0] * (MAX_HASHES - len(each))] for each in (self.refused, self.suspects)]
        _LISTS.pack_into(self._memory, 0, len(self.refused), len(self.suspects), *lists[0], *lists[1])


def _add(to: dict[int, None], hashes: Iterable[int]) -> None:
    for each in hashes:
        to.pop(each, None)
        to[each] = None
    while len(to) > MAX_HASHES:
        del to[next(iter(to))]
