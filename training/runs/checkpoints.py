"""The checkpoints of a training run: one folder per step, renamed when complete, and verified when read.

step-000001200/      the files of the run: weights, optimiser, …
    training.json    step, state, identity of the run, size and sha256 of every other file
.lock                locked by the run that writes
.step-*.writing      incomplete: being written, or left by a run that was killed
.step-*.removing     being removed
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from model_build.atomic_write import WriteError, atomic_folder, sync_folder
from model_build.bundle import sha256_of

logger = logging.getLogger(__name__)

FORMAT = 1
DESCRIPTION = "training.json"
FOLDER = re.compile(r"step-(\d{9,})")
LEFTOVER = re.compile(r"\.step-\d{9,}\.([0-9a-f]+\.)?(writing|removing)")
DIFFERENCES_SHOWN = 20
ABSENT = object()


class CheckpointError(ValueError):
    """Checkpoints that cannot be written or read; the message is one sentence."""


class ResumeError(ValueError):
    """A checkpoint of another run; the message shows the differences."""


class _DamageError(Exception):
    """What is wrong with a checkpoint; the message names the file."""


@dataclass(frozen=True)
class SavedCheckpoint:
    """A complete, verified checkpoint."""

    directory: Path
    step: int
    state: dict[str, Any]
    """the state given to `save`, as read from JSON"""


class Checkpoints:
    """The checkpoints of one run in one folder.

    `identity` is JSON that describes everything that the weights depend on: settings, shape, corpora, vocabulary,
    versions. A run resumes only from checkpoints of the same identity, so `identity` must not contain what may change.
    """

    def __init__(
        self,
        directory: Path,
        identity: Mapping[str, Any],
        *,
        keep: int = 2,
        milestone_every: int = 0,
        writer: bool = True,
    ) -> None:
        """A writer makes the folder, locks it until `close` or its end, and removes incomplete checkpoints.

        The newest `keep` checkpoints are kept, and always those whose step is a multiple of `milestone_every` (0:
        none). Raises CheckpointError if the folder cannot be written or another run writes there.
        """
        if keep < 1 or milestone_every < 0:
            raise ValueError(
                f"keep must be at least 1 and milestone_every at least 0, not {keep} and {milestone_every}."
            )
        self.directory = directory
        self._identity = _as_json(identity)
        self._keep, self._milestone_every = keep, milestone_every
        self._damaged: set[Path] = set()
        self._lock = _lock(directory) if writer else None
        if writer:
            self._remove_leftovers()

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Releases the lock; afterwards `save` is not allowed, `latest` is."""
        if self._lock:
            # Without this, processes forked from this one would keep the lock.
            with contextlib.suppress(OSError):
                fcntl.flock(self._lock, fcntl.LOCK_UN)
            self._lock.close()
            self._lock = None

    def save(self, step: int, state: Mapping[str, Any], write: Callable[[Path], None]) -> SavedCheckpoint:
        """Writes the checkpoint of a step, syncs it to the disk, and removes old checkpoints.

        `write` writes the files of the run into the given folder. If a complete checkpoint of the step exists, as after
        a resume, `write` is not called and the existing checkpoint is returned; a damaged one is replaced.

        Raises CheckpointError if the checkpoint cannot be written, without leaving files, and ResumeError if there is a
        checkpoint of another run.
        """
        if not self._lock:
            raise RuntimeError(f"the checkpoints in {self.directory} are open for reading only.")
        if step < 0:
            raise ValueError(f"step {step} is negative.")
        folder = self.directory / f"step-{step:09d}"
        if folder.is_dir() and (saved := self._whole(folder)):
            logger.info("the checkpoint %s exists already and is kept", folder)
            return saved
        state = _as_json(state)
        try:
            with atomic_folder(folder, existing="replace") as aside:
                write(aside)
                self._describe(aside, step, state)
        except OSError as error:
            raise CheckpointError(self._error_text(step, error)) from error
        self._damaged.discard(folder)
        self._prune(step)
        return SavedCheckpoint(folder, step, state)

    def latest(self) -> SavedCheckpoint | None:
        """The newest complete checkpoint; None if there is no checkpoint.

        Damaged checkpoints are skipped with a warning; a writer removes them after its next `save`. Raises ResumeError
        for a checkpoint of another identity, and CheckpointError if all checkpoints are damaged or the format is
        unknown.
        """
        folders = [folder for _, folder in sorted(self._steps(), reverse=True)]
        for folder in folders:
            if saved := self._whole(folder):
                return saved
        if folders:
            raise CheckpointError(
                f"all {len(folders)} checkpoints in {self.directory} are damaged, the newest is {folders[0]}; restore "
                "one from a copy, or choose another --output to start again."
            )
        return None

    def _whole(self, folder: Path) -> SavedCheckpoint | None:
        """The checkpoint if it is complete; otherwise None, after a warning. Raises like `latest`."""
        try:
            description = _read(folder)
            found = differences(description["identity"], self._identity)
            if found:
                raise ResumeError(_mismatch_text(folder, found))
            _verify(folder, description["files"])
        except _DamageError as damage:
            logger.warning("the checkpoint %s is damaged and is skipped: %s.", folder, damage)
            self._damaged.add(folder)
            return None
        return SavedCheckpoint(folder, description["step"], description["state"])

    def _steps(self) -> Iterator[tuple[int, Path]]:
        """Steps and folders of all checkpoints, in no order."""
        if not self.directory.is_dir():
            return
        for path in self.directory.iterdir():
            match = FOLDER.fullmatch(path.name)
            if match and path.is_dir():
                yield int(match[1]), path

    def _describe(self, aside: Path, step: int, state: dict[str, Any]) -> None:
        """Writes the description, with size and sha256 of every file."""
        path = aside / DESCRIPTION
        if path.exists():
            raise ValueError(
                f"{DESCRIPTION} is reserved for the description of the checkpoint; give the file another name."
            )
        files = {}
        for file in sorted(aside.rglob("*")):
            if not file.is_dir():
                files[file.relative_to(aside).as_posix()] = {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
        description = {"format": FORMAT, "step": step, "state": state, "identity": self._identity, "files": files}
        description["sha256"] = _checksum(description)
        # ASCII escapes also represent file names that are not UTF-8.
        path.write_text(json.dumps(description, indent=2) + "\n", encoding="ascii")

    def _error_text(self, step: int, error: OSError) -> str:
        reason = error.strerror or str(error)
        if error.filename and not isinstance(error, WriteError):
            reason += f" ({error.filename})"
        whole = None
        with contextlib.suppress(CheckpointError, ResumeError, OSError):
            whole = self.latest()
        rest = f"the checkpoint of step {whole.step} is complete" if whole else "there is no complete checkpoint yet"
        return (
            f"the checkpoint of step {step} cannot be written to {self.directory}: {reason}; make room or make it "
            f"writable, then run again: {rest}."
        )

    def _prune(self, step: int) -> None:
        """Removes checkpoints that `keep` and `milestone_every` do not keep, and damaged ones.

        Checkpoints after `step` are kept and not counted.
        """
        try:
            steps = sorted(self._steps())
            whole = [each for each in steps if each[0] <= step and each[1] not in self._damaged]
            kept = {folder for _, folder in whole[-self._keep :]}
            if self._milestone_every:
                kept |= {folder for number, folder in whole if number % self._milestone_every == 0}
            for number, folder in steps:
                if folder in self._damaged or (number <= step and folder not in kept):
                    _retire(folder)
            # A checkpoint that gets its name back after a power cut must still be complete.
            sync_folder(self.directory)
        except OSError as error:
            logger.warning("old checkpoints in %s cannot be removed: %s", self.directory, error.strerror)
        self._remove_leftovers()

    def _remove_leftovers(self) -> None:
        try:
            for path in self.directory.iterdir():
                if LEFTOVER.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
        except OSError as error:
            logger.warning("leftovers in %s cannot be removed: %s", self.directory, error.strerror)


def differences(stored: Any, current: Any) -> list[tuple[str, str, str]]:
    """Where two JSON values differ: the keys, joined by dots, and both values as JSON, or "absent"."""
    return list(_differences(stored, current, ""))


def _differences(stored: Any, current: Any, key: str) -> Iterator[tuple[str, str, str]]:
    stored, current = _empty_if_absent(stored, current), _empty_if_absent(current, stored)
    if isinstance(stored, list) and isinstance(current, list):
        stored, current = dict(enumerate(stored)), dict(enumerate(current))
    if isinstance(stored, dict) and isinstance(current, dict):
        for name in stored | current:
            inner = f"{key}.{name}" if key else str(name)
            yield from _differences(stored.get(name, ABSENT), current.get(name, ABSENT), inner)
    elif stored != current:
        yield key, _shown(stored), _shown(current)


def _empty_if_absent(value: Any, other: Any) -> Any:
    """An absent object is compared as an empty one, so that the differences name each of its keys."""
    return type(other)() if value is ABSENT and isinstance(other, dict | list) and other else value


def _shown(value: Any) -> str:
    if value is ABSENT:
        return "absent"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "…"


def _mismatch_text(folder: Path, found: list[tuple[str, str, str]]) -> str:
    parts = [f"{key} was {stored} and is now {current}" for key, stored, current in found[:DIFFERENCES_SHOWN]]
    if len(found) > DIFFERENCES_SHOWN:
        parts.append(f"and {len(found) - DIFFERENCES_SHOWN} more")
    return (
        f"the checkpoint {folder} was made with other settings: {'; '.join(parts)}; "
        "choose another --output, or give the same settings."
    )


def _read(folder: Path) -> dict[str, Any]:
    """The description of a checkpoint. Raises _DamageError, and CheckpointError for an unknown format."""
    path = folder / DESCRIPTION
    try:
        description = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise _DamageError(f"{path} is absent") from None
    except OSError as error:
        raise _DamageError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise _DamageError(f"{path} is not JSON: {error}") from error
    if not isinstance(description, dict) or description.pop("sha256", None) != _checksum(description):
        raise _DamageError(f"{path} does not match its own checksum")
    if description["format"] != FORMAT:
        raise CheckpointError(
            f"{path} has the format {description['format']}, but this version reads {FORMAT}; resume with the version "
            "that wrote it, or choose another --output."
        )
    if folder.name != f"step-{description['step']:09d}":
        raise _DamageError(f"{path} is of step {description['step']}, but the folder has another name")
    return description


def _verify(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    for name, expected in files.items():
        path = folder / name
        try:
            size = path.stat().st_size
            if size != expected["bytes"]:
                raise _DamageError(f"{path} has {size} bytes, but should have {expected['bytes']}")
            if sha256_of(path) != expected["sha256"]:
                raise _DamageError(f"{path} does not match its checksum")
        except FileNotFoundError:
            raise _DamageError(f"{path} is absent") from None
        except OSError as error:
            raise _DamageError(f"{path} cannot be read: {error.strerror}") from error


def _lock(directory: Path) -> TextIO:
    """Makes the folder and locks it; the lock ends with the process."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        file = (directory / ".lock").open("w")
    except OSError as error:
        reason = "it is not a folder" if isinstance(error, FileExistsError) else error.strerror
        raise CheckpointError(
            f"checkpoints cannot be written to {directory}: {reason}; choose another --output."
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise CheckpointError(
            f"another run writes its checkpoints to {directory}; wait for it or choose another --output."
        ) from error
    except OSError as error:
        # Some network file systems lack locks; training still works there.
        logger.warning("%s cannot be locked (%s); make sure that only one run writes there.", directory, error.strerror)
    return file


def _retire(folder: Path) -> None:
    """Renames a checkpoint before its removal, so that it is never seen half removed."""
    os.rename(folder, folder.with_name(f".{folder.name}.removing"))


def _checksum(description: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def _as_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """The value after a round trip through JSON: lists for tuples, strings for keys."""
    copy: dict[str, Any] = json.loads(json.dumps(value))
    return copy
