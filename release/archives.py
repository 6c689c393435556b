"""Source archives and wheels as what they hold: names and bytes, and what must not be among them."""

from __future__ import annotations

import csv
import fnmatch
import io
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

# Installers write these; a wheel's own WHEEL holds the platform tag, which is set after the build.
_INSTALLERS = {"RECORD", "INSTALLER", "REQUESTED", "WHEEL", "direct_url.json"}


def read_archive(path: Path) -> dict[str, bytes]:
    """Every file of a wheel, or of an sdist without its top folder (`name-version/`), by its path."""
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
    """The `tracked` files that a wheel of `packages` holds; `excluded` are patterns as in `wheel.exclude`."""
    folders, patterns = set(packages), list(excluded)
    return {
        name
        for name in tracked
        if name.split("/")[0] in folders and not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
    }


def difference(found: Iterable[str], expected: Iterable[str]) -> str:
    """What is missing and what is too much, in words; empty where both are the same."""
    missing, surplus = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    parts = [
        f"{word} {', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"
        for word, names in (("lacks", missing), ("has no business with", surplus))
        if names
    ]
    return " and ".join(parts)


def mentions(files: Mapping[str, bytes], paths: Iterable[Path | str]) -> list[str]:
    """`file: path` for every one of `paths` that stands in the bytes of a file, as paths of a building machine do."""
    sought = [(str(path), str(path).encode()) for path in paths]
    return [f"{name}: {path}" for name, content in files.items() for path, wanted in sought if wanted in content]


def installed_hashes(record: str) -> dict[str, str]:
    """`{file: hash}` of the packages' own files in a RECORD (the wheel's, or the one an installer has written).

    The format is the packaging specification "Recording installed projects". Files that installers add are left out.
    """
    rows = {PurePosixPath(row[0]): row[1] for row in csv.reader(io.StringIO(record)) if row}
    return {
        str(path): digest
        for path, digest in rows.items()
        if digest and ".." not in path.parts and not (".dist-info" in path.parts[0] and path.name in _INSTALLERS)
    }
