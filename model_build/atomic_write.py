"""Files and folders that are complete under their final name, or absent.

They are written under a temporary name in the same folder, synced to the disk and renamed; then the folder is synced,
so that the new name survives a power cut. Temporary names are `.NAME.TOKEN.writing`, with a random token: several
processes may write the same file at once, and the last one wins. A process that is killed may leave one behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, TextIO, overload


class WriteError(OSError):
    """A file or folder that cannot be written; the message names it and says what to do."""

    def __str__(self) -> str:
        return (
            f"{self.filename} cannot be written: {self.strerror}; make room or choose another --output, then run again."
        )


@overload
def atomic_file(path: Path) -> contextlib.AbstractContextManager[TextIO]: ...
@overload
def atomic_file(path: Path, mode: Literal["wb"]) -> contextlib.AbstractContextManager[BinaryIO]: ...
def atomic_file(path: Path, mode: Literal["w", "wb"] = "w") -> contextlib.AbstractContextManager[IO[Any]]:
    """A file to write, as UTF-8 text ("w") or bytes ("wb"), that replaces `path` when the block ends without an error.

    Missing parent folders are made. After an error `path` is as it was. Raises WriteError where the disk is full or
    refuses.
    """
    return _atomic_file(path, mode)


@contextlib.contextmanager
def _atomic_file(path: Path, mode: str) -> Iterator[IO[Any]]:
    temporary = _temporary(path, "writing")
    with write_errors(path):
        with _any_write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = temporary.open(mode.replace("w", "x"), encoding=None if "b" in mode else "utf-8")
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


@contextlib.contextmanager
def atomic_folder(path: Path, *, existing: Literal["refuse", "replace", "keep"] = "refuse") -> Iterator[Path]:
    """An empty folder to fill, which becomes `path` when the block ends without an error.

    A folder that is at `path` by then is refused with FileExistsError, replaced, or kept instead of the new one.
    Missing parent folders are made. After an error `path` is as it was. Raises WriteError where the disk is full or
    refuses.
    """
    temporary = _temporary(path, "writing")
    with write_errors(path):
        with _any_write_errors(path):
            temporary.mkdir(parents=True)
        try:
            yield temporary
            sync_tree(temporary)
            if existing == "replace" and path.exists():
                removed = remove_name(path)
                os.rename(temporary, path)
                sync_folder(path.parent)
                shutil.rmtree(removed, ignore_errors=True)
            elif not (existing == "keep" and path.exists()):
                rename_folder(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def rename_folder(folder: Path, path: Path) -> None:
    """Renames a folder whose files are synced, and syncs the new name. Raises FileExistsError where `path` exists."""
    if path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    os.rename(folder, path)
    sync_folder(path.parent)


def remove_name(path: Path) -> Path:
    """Renames a folder to `.NAME.TOKEN.removing`, so that it is never seen half removed; returns the new path."""
    removed = _temporary(path, "removing")
    os.rename(path, removed)
    return removed


def sync_tree(folder: Path) -> None:
    """Syncs every file and folder below `folder`, and `folder` last."""
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            sync_folder(path)
        else:
            sync_file(path)
    sync_folder(folder)


def sync_file(path: Path) -> None:
    """Waits until the content of a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turns an OSError that names no file, as those of a failed write, into a WriteError that names `path`."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or isinstance(error, WriteError):
            raise
        raise WriteError(error.errno, error.strerror, str(path)) from error


@contextlib.contextmanager
def _any_write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WriteError(error.errno, error.strerror, str(path)) from error


def _temporary(path: Path, what: Literal["writing", "removing"]) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.{what}")
