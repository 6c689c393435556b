"""Running the checks of a release, and the checks that need no build."""

import subprocess
from pathlib import Path

import pytest

from release.check import Release, check, check_committed, tracked_files
from release.environments import CheckFailed, clean_environment, run


def git(folder: Path, *arguments: str) -> None:
    who = (
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@example.org",
        "-c",
        "tag.gpgSign=false",
        "-c",
        "commit.gpgSign=false",
    )
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def release(tmp_path: Path) -> Release:
    """Version 1.2.0 of a checkout with one committed file."""
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "a.py").write_text("a = 1\n")
    git(root, "init", "--quiet")
    git(root, "add", "a.py")
    git(root, "commit", "--quiet", "--message", "a")
    return Release(root, tmp_path, ["a.py"], {"project": {"version": "1.2.0"}}, rehearsal=False)


def test_each_check_prints_a_line_and_the_first_failed_one_is_the_last(
    release: Release, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(_: Release) -> str:
        raise CheckFailed("it is broken.")

    with pytest.raises(CheckFailed, match=r"^it is broken\.$"):
        check(release, [("first", lambda _: "fine"), ("second", breaks), ("third", lambda _: "never")])
    first, second = capsys.readouterr().out.splitlines()
    assert first.split() == ["✓", "0.0", "s", "first:", "fine"]
    assert second.split() == ["✗", "0.0", "s", "second"]


def test_a_checkout_without_changes_passes(release: Release) -> None:
    assert len(check_committed(release)) == 12


@pytest.mark.parametrize("name", ["a.py", "forgotten.py"])
def test_a_changed_or_forgotten_file_is_named(release: Release, name: str) -> None:
    (release.root / name).write_text("a = 2\n")
    with pytest.raises(CheckFailed, match=rf"\b{name} "):
        check_committed(release)
    release.rehearsal = True
    check_committed(release)


@pytest.mark.parametrize(
    "kind", [["v1.2.0"], ["--annotate", "--message", "1.2.0", "v1.2.0"]], ids=["light", "annotated"]
)
def test_a_version_can_be_the_tag_of_one_commit_only(release: Release, kind: list[str]) -> None:
    git(release.root, "tag", *kind)
    check_committed(release)
    git(release.root, "commit", "--quiet", "--allow-empty", "--message", "b")
    with pytest.raises(CheckFailed, match=r"v1\.2\.0 is the tag of another commit"):
        check_committed(release)


def test_only_a_git_checkout_has_tracked_files(release: Release, tmp_path: Path) -> None:
    (release.root / "untracked.py").touch()
    assert tracked_files(release.root) == ["a.py"]
    with pytest.raises(CheckFailed, match="is not a git checkout"):
        tracked_files(tmp_path)


def test_the_error_of_a_failed_command_has_the_end_of_its_output(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match=r"`sh -c .*` ended with status 3:\nno such thing"):
        run("sh", "-c", "echo no such thing >&2; exit 3", cwd=tmp_path)


def test_a_clean_environment_has_no_variables_that_point_to_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONPATH", "VIRTUAL_ENV", "ERNIE_MODELS"):
        monkeypatch.setenv(name, "somewhere")
    assert not {"PYTHONPATH", "VIRTUAL_ENV", "ERNIE_MODELS"} & set(clean_environment())
    assert "PATH" in clean_environment()
