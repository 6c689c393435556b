"""The values of metrics in files: each process writes its own files, and each can add up the files of all.

The format is that of prometheus_client's files: https://prometheus.github.io/client_python/multiprocess/. Unlike there,
the blocks of a file are allocated before it is mapped into memory. Otherwise a full disk would kill the process with
SIGBUS at the next count. While a file cannot be written, its process counts in memory.

Names of files: KIND_PID.db for a running process, KIND_ended.db for the sum of all ended processes.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import mmap
import os
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from prometheus_client.mmap_dict import mmap_key

log = logging.getLogger(__name__)

FIRST_BYTES = 1 << 16
ENDED = "ended"
# While the parent adds up files, a reader waits for up to this time.
LOCK_SECONDS = 0.02
_INT = struct.Struct("i")
_VALUE = struct.Struct("dd")
_HEAD_BYTES = 8


class ValueTable:
    """The values of one kind of metric of this process, in a file, or in memory while the file cannot be written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode: int | None = None
        self._used = _HEAD_BYTES
        self._table: mmap.mmap | bytearray = bytearray(FIRST_BYTES)
        _INT.pack_into(self._table, 0, self._used)
        self._map(FIRST_BYTES)

    def add(self, key: str) -> int:
        """The position of a new value, which is 0."""
        entry = _entry(key, 0.0)
        if self._used + len(entry) > len(self._table):
            self._map(2 * len(self._table))
        end = self._used + len(entry)
        self._table[self._used : end] = entry
        # After the entry, because other processes read the file meanwhile.
        self._table[0:4] = _INT.pack(end)
        self._used = end
        return end - _VALUE.size

    def write(self, position: int, value: float) -> None:
        """Sets the value at a position."""
        _VALUE.pack_into(self._table, position, value, 0.0)

    def values(self) -> Iterator[tuple[str, float]]:
        """Every key with its value."""
        return entries(bytes(self._table[: self._used]))

    def restore(self) -> bool:
        """Writes the file again if it is missing or was not writable; returns whether it is in order."""
        with contextlib.suppress(OSError):
            if self._inode is not None and os.stat(self._path).st_ino == self._inode:
                return True
        return self._map(len(self._table))

    def _map(self, size: int) -> bool:
        """Replaces the file by one of `size` bytes with the same values; without success, counts in memory."""
        used = bytes(self._table[: self._used])
        try:
            _own_folder(self._path.parent)
            self._table, self._inode = _mapped(self._path, used, size)
        except OSError as error:
            self._table, self._inode = bytearray(used.ljust(size, b"\0")), None
            _warn(self._path, error)
            return False
        return True


class ValueFiles:
    """All files in the folder of a service; `name` is that of this process in the names of its files."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self._name = name
        self._own: dict[str, ValueTable] = {}
        self._ended: set[str] = set()

    def table(self, kind: str) -> ValueTable:
        """The values of this process of one kind."""
        if kind not in self._own:
            self._own[kind] = ValueTable(self._path(kind, self._name))
        return self._own[kind]

    def restore(self) -> None:
        """Writes missing files again, and adds up the files of ended processes that could not be added before."""
        if all([table.restore() for table in self._own.values()]):
            _succeed(self.folder)
        if self._ended:
            self._merge()

    def totals(self) -> dict[tuple[str, str], float]:
        """The sum over all processes for each kind and key. The values of this process come from its memory."""
        found: dict[tuple[str, str], float] = {}
        for kind, table in self._own.items():
            _sum(found, kind, table.values())
        with _locked(self.folder, fcntl.LOCK_SH, LOCK_SECONDS):
            for path in sorted(self.folder.glob("*.db")):
                kind, name = path.stem.rsplit("_", 1)
                if name != self._name:
                    _sum(found, kind, _read(path))
        return found

    def end(self, name: str) -> None:
        """Adds the counts of an ended process to the file of all ended processes. Its gauges are removed."""
        self._ended.add(name)
        self._merge()

    def _merge(self) -> None:
        """Adds up the files of ended processes; what cannot be written now remains until the next call."""
        try:
            with _locked(self.folder, fcntl.LOCK_EX, 0.0) as locked:
                if not locked:
                    return
                ended: dict[str, list[Path]] = {}
                for path in self.folder.glob("*.db"):
                    kind, name = path.stem.rsplit("_", 1)
                    if name in self._ended:
                        ended.setdefault(kind, []).append(path)
                for kind, paths in ended.items():
                    self._add_up(kind, paths)
        except OSError as error:
            _warn(self.folder, error)
        else:
            self._ended.clear()

    def _add_up(self, kind: str, paths: Sequence[Path]) -> None:
        if not kind.startswith("gauge"):
            sums: dict[tuple[str, str], float] = {}
            target = self._path(kind, ENDED)
            for path in (target, *paths):
                _sum(sums, kind, _read(path))
            content = b"".join(_entry(key, value) for (_, key), value in sums.items())
            _write(target, _INT.pack(_HEAD_BYTES + len(content)) + bytes(4) + content)
        for path in paths:
            path.unlink()

    def _path(self, kind: str, name: str) -> Path:
        return self.folder / f"{kind}_{name}.db"


class SharedValue:
    """A number of a metric, for prometheus_client. It has no lock: a process counts in one thread, and never forks."""

    _multiprocess = True
    files: ValueFiles

    def __init__(
        self,
        typ: str,
        metric_name: str,
        name: str,
        labelnames: list[str],
        labelvalues: list[str],
        help_text: str,
        multiprocess_mode: str = "",
        **_: Any,
    ) -> None:
        self._table = self.files.table(f"gauge_{multiprocess_mode}" if typ == "gauge" else typ)
        self._position = self._table.add(mmap_key(metric_name, name, labelnames, labelvalues, help_text))
        self._value = 0.0

    def inc(self, amount: float) -> None:
        """Adds `amount`."""
        self._value += amount
        self._table.write(self._position, self._value)

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Sets the number."""
        self._value = value
        self._table.write(self._position, value)

    def get(self) -> float:
        """The number in this process."""
        return self._value

    def set_exemplar(self, exemplar: Any) -> None:
        """Exemplars are not kept."""

    def get_exemplar(self) -> None:
        """Exemplars are not kept."""


def entries(data: bytes) -> Iterator[tuple[str, float]]:
    """The keys and values of a file. A file that is damaged ends before its first damaged entry."""
    with contextlib.suppress(struct.error, UnicodeDecodeError):
        (used,) = _INT.unpack_from(data, 0)
        position = _HEAD_BYTES
        while position < min(used, len(data)):
            (length,) = _INT.unpack_from(data, position)
            if length <= 0:
                return
            key = data[position + 4 : position + 4 + length].decode("utf-8")
            position += 4 + length + _padding(length)
            yield key, _VALUE.unpack_from(data, position)[0]
            position += _VALUE.size


def _padding(length: int) -> int:
    return 8 - (length + 4) % 8


def _entry(key: str, value: float) -> bytes:
    encoded = key.encode("utf-8")
    return _INT.pack(len(encoded)) + encoded + b" " * _padding(len(encoded)) + _VALUE.pack(value, 0.0)


def _sum(sums: dict[tuple[str, str], float], kind: str, values: Iterable[tuple[str, float]]) -> None:
    for key, value in values:
        sums[kind, key] = sums.get((kind, key), 0.0) + value


def _read(path: Path) -> Iterator[tuple[str, float]]:
    try:
        return entries(path.read_bytes())
    except FileNotFoundError:  # the parent has just added it to the file of ended processes
        return iter(())


def _own_folder(folder: Path) -> None:
    """Creates the folder again if it is missing. Raises OSError if it belongs to another user."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.lstat(folder).st_uid != os.geteuid():
        raise PermissionError(0, "the folder belongs to another user", str(folder))


def _mapped(path: Path, content: bytes, size: int) -> tuple[mmap.mmap, int]:
    """A new file with allocated blocks, mapped into memory, and its inode. It appears under its name when complete."""
    aside = path.with_suffix(".new")
    try:
        with open(aside, "w+b", buffering=0) as file:
            os.posix_fallocate(file.fileno(), 0, size)
            table = mmap.mmap(file.fileno(), size)
            table[: len(content)] = content
            os.replace(aside, path)
            return table, os.fstat(file.fileno()).st_ino
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def _write(path: Path, content: bytes) -> None:
    aside = path.with_suffix(".new")
    try:
        aside.write_bytes(content)
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _locked(folder: Path, kind: int, seconds: float) -> Iterator[bool]:
    """Locks the folder for a reader (LOCK_SH) or for adding up files (LOCK_EX); yields whether it is locked.

    It waits for `seconds` at most, because the process that holds the lock may be stopped.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        yield _lock(descriptor, kind, time.monotonic() + seconds)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: int, until: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.001)
        except OSError:  # the file system has no locks
            return True
        else:
            return True


_failed: set[Path] = set()


def _warn(path: Path, error: OSError) -> None:
    """Logs one sentence for a folder until it can be written again."""
    folder = path if path.suffix != ".db" else path.parent
    if folder not in _failed:
        _failed.add(folder)
        log.error(
            "metrics are counted in memory only, because the folder %s cannot be written: %s; make room in it, or set "
            "TMPDIR to another folder and restart the service.",
            folder,
            error.strerror or error,
        )


def _succeed(folder: Path) -> None:
    if folder in _failed:
        _failed.discard(folder)
        log.info("the metrics are written to %s again", folder)
