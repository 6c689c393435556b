"""Reads source archives and wheels, and compares their files with the expected ones."""

from __future__ import annotations

import csv
import fnmatch
import io
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

# Installers write these files. WHEEL is one of them because it holds the platform tag, which is set after the build.
_INSTALLERS = {"RECORD", "INSTALLER", "REQUESTED", "WHEEL", "direct_url.json"}


def read_archive(path: Path) -> dict[str, bytes]:
    """The content of every file of a wheel or sdist by its path.

    The top folder of an sdist is removed from the paths.
    """
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return {name: wheel.read(name) for name in wheel.namelist() if not name.endswith("/")}
    with tarfile.open(path) as sdist:
        files = [member for member in sdist if not member.isdir()]
        return {member.name.split("/", 1)[1]: _content(sdist, member) for member in files}


def _content(sdist: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = sdist.extractfile(member) if member.isreg() else None  # links are not followed
    return file.read() if file else b""


def packaged(tracked: Iterable[str], packages: Iterable[str], excluded: Iterable[str]) -> set[str]:
    """The files of `tracked` that a wheel of `packages` contains; `excluded` are patterns as in `wheel.exclude`."""
    folders, patterns = set(packages), list(excluded)
    return {
        name
        for name in tracked
        if name.split("/")[0] in folders and not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
    }


def difference(found: Iterable[str], expected: Iterable[str]) -> str:
    """The missing and the unexpected files, as the end of a sentence; empty if there are none."""
    missing, surplus = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    parts = [
        f"{word} {', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"
        for word, names in (("lacks", missing), ("must not contain", surplus))
        if names
    ]
    return " and ".join(parts)


def mentions(files: Mapping[str, bytes], paths: Iterable[Path | str]) -> list[str]:
    """`file: path` for every path of `paths` that occurs in a file, such as a path of the machine that built it."""
    sought = [(str(path), str(path).encode()) for path in paths]
    return [f"{name}: {path}" for name, content in files.items() for path, wanted in sought if wanted in content]


def installed_hashes(record: str) -> dict[str, str]:
    """The hashes by file in a RECORD, either of a wheel or of an installed package.

    The format is the packaging specification "Recording installed projects". Files that installers add are left out.
    """
    rows = {PurePosixPath(row[0]): row[1] for row in csv.reader(io.StringIO(record)) if row}
    return {
        str(path): digest
        for path, digest in rows.items()
        if digest and ".." not in path.parts and not (".dist-info" in path.parts[0] and path.name in _INSTALLERS)
    }
