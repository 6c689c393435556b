"""New virtual environments, and commands that run independently of the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

NO_COMPILER = {"CC": "/bin/false", "CXX": "/bin/false"}


class CheckFailed(Exception):
    """A check of the release failed; the message is the sentence to print."""


def run(*command: object, cwd: Path, variables: Mapping[str, str] | None = None) -> str:
    """Runs a command and returns its standard output; raises CheckFailed with the end of its output if it fails."""
    words = [str(word) for word in command]
    environment = clean_environment() | dict(variables or {})
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode:
        end = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise CheckFailed(f"`{' '.join(words)}` ended with status {done.returncode}:\n{end}")
    return done.stdout


def clean_environment() -> dict[str, str]:
    """The environment variables without those that point to the checkout or configure the service."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ERNIE_", "VIRTUAL_"))}


def uv() -> str:
    """The path of uv, in the folder of this Python or on PATH; raises CheckFailed if there is none."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.is_file() else shutil.which("uv")
    if not found:
        raise CheckFailed("uv is neither in the folder of this Python nor on PATH; run ./setup.sh.")
    return found


def empty_environment(folder: Path) -> Path:
    """Makes a virtual environment without pip, for uv; returns its Python."""
    run(uv(), "venv", "--quiet", "--python", sys.executable, folder, cwd=folder.parent)
    return python_of(folder)


def pip_environment(folder: Path) -> Path:
    """Makes a virtual environment with `python -m venv` and the pip that comes with Python; returns its Python."""
    run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    return python_of(folder)


def python_of(folder: Path) -> Path:
    return folder / "bin" / "python"


def pip_install(python: Path, *arguments: object, variables: Mapping[str, str] | None = None) -> None:
    """Runs `pip install` of an environment; raises CheckFailed if it fails."""
    quiet = ("--quiet", "--disable-pip-version-check", "--no-compile")
    run(python, "-m", "pip", "install", *quiet, *arguments, cwd=python.parent, variables=variables)


def uv_install(python: Path, *arguments: object) -> None:
    """Runs `uv pip install`, of wheels only and without `[tool.uv]` of the checkout; raises CheckFailed if it fails."""
    command = (uv(), "pip", "install", "--quiet", "--python", python, "--no-build")
    run(*command, *arguments, cwd=python.parent, variables=NO_COMPILER)
