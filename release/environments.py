"""New environments, and commands that see nothing of the checkout that they are started from."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

NO_COMPILER = {"CC": "/bin/false", "CXX": "/bin/false"}


class Broken(Exception):
    """A check failed; the message is the sentence to print."""


def run(*command: object, cwd: Path, variables: Mapping[str, str] | None = None) -> str:
    """Standard output of a command; raises Broken with the end of its output where it fails."""
    words = [str(word) for word in command]
    environment = clean_environment() | dict(variables or {})
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode:
        end = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise Broken(f"`{' '.join(words)}` ended with status {done.returncode}:\n{end}")
    return done.stdout


def clean_environment() -> dict[str, str]:
    """This process's environment without what points at the checkout or sets the service."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ERNIE_", "VIRTUAL_"))}


def uv() -> str:
    """The program, beside this Python or on PATH; raises Broken."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.is_file() else shutil.which("uv")
    if not found:
        raise Broken("uv is neither beside this Python nor on PATH; run ./setup.sh.")
    return found


def empty_environment(folder: Path) -> Path:
    """Makes an environment without pip, for uv; returns its Python."""
    run(uv(), "venv", "--quiet", "--python", sys.executable, folder, cwd=folder.parent)
    return python_of(folder)


def pip_environment(folder: Path) -> Path:
    """Makes an environment as `python -m venv` does, with the pip that comes with Python; returns its Python."""
    run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    return python_of(folder)


def python_of(folder: Path) -> Path:
    return folder / "bin" / "python"


def pip_install(python: Path, *arguments: object, variables: Mapping[str, str] | None = None) -> None:
    """`pip install` with the pip of that environment; raises Broken."""
    quiet = ("--quiet", "--disable-pip-version-check", "--no-compile")
    run(python, "-m", "pip", "install", *quiet, *arguments, cwd=python.parent, variables=variables)


def uv_install(python: Path, *arguments: object) -> None:
    """`uv pip install` of wheels alone; raises Broken. `[tool.uv]` of the checkout is not seen."""
    command = (uv(), "pip", "install", "--quiet", "--python", python, "--no-build")
    run(*command, *arguments, cwd=python.parent, variables=NO_COMPILER)
