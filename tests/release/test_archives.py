"""Reading and comparing the files of an sdist and a wheel."""

import io
import tarfile
import zipfile
from pathlib import Path

from release.archives import difference, installed_hashes, mentions, packaged, read_archive


def test_the_paths_of_an_sdist_have_no_top_folder_and_those_of_a_wheel_are_unchanged(tmp_path: Path) -> None:
    sdist, wheel = tmp_path / "a-1.tar.gz", tmp_path / "a-1-py3-none-any.whl"
    with tarfile.open(sdist, "w:gz") as archive:
        folder = tarfile.TarInfo("a-1/room")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        file = tarfile.TarInfo("a-1/room/x.py")
        file.size = 3
        archive.addfile(file, io.BytesIO(b"x=1"))
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("room/", "")
        archive.writestr("room/x.py", "x=1")
    assert read_archive(sdist) == read_archive(wheel) == {"room/x.py": b"x=1"}


def test_a_link_in_an_sdist_counts_as_a_file(tmp_path: Path) -> None:
    sdist = tmp_path / "a-1.tar.gz"
    with tarfile.open(sdist, "w:gz") as archive:
        link = tarfile.TarInfo("a-1/passwords")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/shadow"
        archive.addfile(link)
    assert set(read_archive(sdist)) == {"passwords"}


def test_a_wheel_has_the_tracked_files_of_its_packages_that_are_not_excluded() -> None:
    tracked = ["native/__init__.py", "native/src/a.cpp", "native/README.md", "service/page/p.css", "tests/t.py", "x.py"]
    found = packaged(tracked, ["native", "service"], ["native/src/**", "**/README.md"])
    assert found == {"native/__init__.py", "service/page/p.css"}


def test_a_difference_names_missing_and_unexpected_files() -> None:
    assert difference(["a", "b"], ["b", "a"]) == ""
    assert difference(["a", "c"], ["a", "b"]) == "lacks b and must not contain c"
    assert difference([], "abcdefg") == "lacks a, b, c, d, e and 2 more"


def test_paths_are_found_in_text_and_in_binaries() -> None:
    files = {"a.so": b"\x7fELF\0/build/here/x.cpp\0", "b.py": b"pass"}
    assert mentions(files, [Path("/build/here"), "/home/me/"]) == ["a.so: /build/here"]


def test_hashes_do_not_include_files_that_an_installer_adds() -> None:
    own = 'native/x.py,sha256=aa,3\n"service/a,b.css",sha256=bb,4\na-1.dist-info/METADATA,sha256=cc,5\n'
    wheel = own + "a-1.dist-info/WHEEL,sha256=dd,6\na-1.dist-info/RECORD,,\n"
    installed = (
        own
        + "a-1.dist-info/WHEEL,sha256=ee,6\na-1.dist-info/INSTALLER,sha256=ff,4\na-1.dist-info/REQUESTED,sha256=gg,0\n"
        + "../../../bin/a,sha256=hh,9\nnative/__pycache__/x.cpython-310.pyc,,\na-1.dist-info/RECORD,,\n"
    )
    assert installed_hashes(installed) == installed_hashes(wheel)
    assert installed_hashes(wheel) == {
        "native/x.py": "sha256=aa",
        "service/a,b.css": "sha256=bb",
        "a-1.dist-info/METADATA": "sha256=cc",
    }


def test_a_changed_file_has_a_changed_hash() -> None:
    assert installed_hashes("native/x.py,sha256=aa,3\n") != installed_hashes("native/x.py,sha256=ab,3\n")
