"""Files and folders are complete under their final name, or absent."""

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from model_build.atomic_write import WriteError, atomic_file, atomic_folder, rename_folder, write_errors


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_has_its_content_and_its_name_at_once(tmp_path: Path) -> None:
    path = tmp_path / "below" / "text.txt"
    with atomic_file(path) as file:
        file.write("今天")
        assert not path.exists()
    assert path.read_text(encoding="utf-8") == "今天"
    with atomic_file(path, "wb") as file:
        file.write(b"new")
        assert path.read_text(encoding="utf-8") == "今天"
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["text.txt"]


def test_a_file_that_fails_leaves_the_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("old")
    with pytest.raises(TypeError), atomic_file(path) as file:
        file.writelines(["half", 1])
    assert path.read_text() == "old"
    assert names(tmp_path) == ["text.txt"]


def test_all_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, rename, replace = os.fsync, os.rename, os.replace

    def recorded(descriptor: int) -> None:
        events.append("sync " + Path(os.readlink(f"/proc/self/fd/{descriptor}")).name.split(".writing")[0][-5:])
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    monkeypatch.setattr(os, "rename", lambda old, new: (events.append("rename"), rename(old, new)))
    monkeypatch.setattr(os, "replace", lambda old, new: (events.append("rename"), replace(old, new)))
    with atomic_file(tmp_path / "text.txt") as file:
        file.write("text")
    assert [event.split()[0] for event in events] == ["sync", "rename", "sync"]
    events.clear()
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "below").mkdir()
        (folder / "below" / "one").write_text("1")
        (folder / "two").write_text("2")
    assert events[:3] == ["sync below", "sync one", "sync two"]
    assert [event.split()[0] for event in events[3:]] == ["sync", "rename", "sync"]


def test_a_folder_is_refused_replaced_or_kept(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with atomic_folder(path) as folder:
        (folder / "file").write_text("first")
    with pytest.raises(FileExistsError, match=str(path)), atomic_folder(path) as folder:
        (folder / "file").write_text("second")
    assert (path / "file").read_text() == "first"
    with atomic_folder(path, existing="keep") as folder:
        (folder / "file").write_text("third")
    assert (path / "file").read_text() == "first"
    with atomic_folder(path, existing="replace") as folder:
        (folder / "other").write_text("fourth")
    assert names(path) == ["other"]
    assert names(tmp_path) == ["folder"]


def test_a_folder_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "folder") as folder:
        (folder / "file").rename(folder / "absent" / "file")
    assert names(tmp_path) == []


def test_rights_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_text("")
    (tmp_path / "plain").mkdir()
    with atomic_file(tmp_path / "text.txt"):
        pass
    with atomic_folder(tmp_path / "folder"):
        pass
    assert (tmp_path / "text.txt").stat().st_mode == (tmp_path / "plain.txt").stat().st_mode
    assert (tmp_path / "folder").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_full_disk_names_the_file_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for write in (lambda: atomic_file(tmp_path / "new"), lambda: atomic_folder(tmp_path / "new")):
        with pytest.raises(WriteError) as error, write():
            pass
        assert str(error.value) == (
            f"{tmp_path / 'new'} cannot be written: No space left on device; make room or choose another --output, "
            "then run again."
        )
        assert names(tmp_path) == []


def test_a_folder_that_refuses_is_named_and_another_error_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for write in (atomic_file, atomic_folder):
        refused = pytest.raises(WriteError, match=r"file/new cannot be written: (Not a directory|File exists)")
        with refused, write(tmp_path / "file" / "new"):
            pass
    with pytest.raises(FileNotFoundError, match="absent"), write_errors(tmp_path / "new"):
        (tmp_path / "absent").read_text()
    with pytest.raises(FileExistsError):
        rename_folder(tmp_path, tmp_path)


def test_the_error_comes_back_from_another_process() -> None:
    error = pickle.loads(pickle.dumps(WriteError(28, "No space left on device", "some/path")))
    assert str(error).startswith("some/path cannot be written: No space left on device;")


def test_a_kill_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from model_build.atomic_write import atomic_file
with atomic_file(Path(sys.argv[1])) as file:
    file.write("half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "text.txt")])
    assert done.returncode == -signal.SIGKILL
    (left,) = names(tmp_path)
    assert left.startswith(".text.txt.")
    assert left.endswith(".writing")
