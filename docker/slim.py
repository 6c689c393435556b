"""Removes files that the service never opens from installed packages: `python3 slim.py SITE_PACKAGES`.

Use it only in images: afterwards the packages differ from their lists of files. Prints the bytes that each step saves.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections import defaultdict
from pathlib import Path

UNUSED = {
    "libraries for linking": ["fastdeploy/**/*.a"],
    # libopenvino.so, to which libfastdeploy.so is linked, opens these when it loads a graph. The service does not use
    # FastDeploy's OpenVINO, which cannot load ERNIE's graphs.
    "FastDeploy's OpenVINO plugins": ["fastdeploy/libs/third_libs/openvino/runtime/lib/libopenvino_*"],
    "face detectors of OpenCV": ["cv2/data/*.xml"],
    "tests of NumPy": ["numpy/**/tests"],
}


def main() -> None:
    site = Path(sys.argv[1])
    if not site.is_dir():
        sys.exit(f"slim: {site} is not a folder; name the site-packages of the image.")
    for what, patterns in UNUSED.items():
        report(what, sum(remove(path) for pattern in patterns for path in sorted(site.glob(pattern))))
    report("copies of libraries", link_copies(site))


def report(what: str, size: int) -> None:
    print(f"slim: {what}: {size / 1e6:.0f} MB")


def remove(path: Path) -> int:
    """Removes a file or a folder; returns its size in bytes."""
    if not path.is_dir():
        size = path.lstat().st_size
        path.unlink()
        return size
    size = sum(each.lstat().st_size for each in path.rglob("*") if each.is_file())
    shutil.rmtree(path)
    return size


def link_copies(site: Path) -> int:
    """Replaces equal libraries in a folder by links to one of them; returns the bytes saved.

    A wheel cannot contain links, so it has a library twice, as `libx.so` and `libx.so.1`. The one with the longest name
    stays.
    """
    equal: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for path in site.rglob("*.so*"):
        if path.is_file() and not path.is_symlink():
            equal[path.parent, hashlib.sha256(path.read_bytes()).hexdigest()].append(path)
    saved = 0
    for paths in equal.values():
        kept, *copies = sorted(paths, key=lambda path: (-len(path.name), path.name))
        for copy in copies:
            saved += remove(copy)
            copy.symlink_to(kept.name)
    return saved


if __name__ == "__main__":
    main()
