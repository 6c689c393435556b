"""Takes out of installed packages what the service never opens: `python3 slim.py SITE_PACKAGES`.

Only for images: what is left is no longer what the packages' own lists of files say. Prints what each step has saved.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections import defaultdict
from pathlib import Path

UNUSED = {
    "libraries for linking": ["fastdeploy/**/*.a"],
    # libfastdeploy.so is linked to libopenvino.so, and that one opens these when a graph is loaded; the service
    # does not use FastDeploy's OpenVINO, which refuses ERNIE's graphs.
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
    """Makes one library of those that are equal in a folder; returns the bytes saved.

    A wheel can hold no links, so `libx.so` and `libx.so.1` lie in it twice. The longest name stays the file.
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
