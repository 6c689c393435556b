"""Runs every finding, each in a fresh environment in a temporary folder, and prints which behaviour has changed.

Exit status: 0 if every behaviour is as recorded, 1 if one has changed, 2 if one could not be run and none has changed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = {0: "as recorded", 1: "changed"}
COULD_NOT_RUN = 2


def main(names: list[str]) -> int:
    """`names` chooses among the findings; without names all are run."""
    scripts = [path for path in sorted(HERE.glob("*.py")) if path != Path(__file__)]
    chosen = [path for path in scripts if path.stem in names or not names]
    width = max((len(path.stem) for path in chosen), default=0)
    statuses = []
    for path in chosen:
        status, output = finding(path)
        statuses.append(status)
        print(f"{path.stem:{width}}  {RESULTS.get(status, 'could not run')}", flush=True)
        if status:
            print("".join(f"    {line}\n" for line in output.splitlines()[-20:]), end="", flush=True)
    return 1 if 1 in statuses else max(statuses, default=COULD_NOT_RUN)


def finding(path: Path) -> tuple[int, str]:
    """Exit status and output of a script; the packages are those that its header names."""
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if uv is None:
        return COULD_NOT_RUN, "uv is not installed"
    with tempfile.TemporaryDirectory(prefix="finding-") as folder:
        python = Path(folder, "venv", "bin", "python")
        for command in (
            [uv, "venv", "--quiet", "--python", sys.executable, python.parents[1]],
            [uv, "pip", "install", "--quiet", "--python", python, "--requirements", path],
        ):
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            if done.returncode:
                return COULD_NOT_RUN, done.stderr
        done = subprocess.run([python, path], cwd=folder, capture_output=True, text=True)
    return done.returncode if done.returncode in RESULTS else COULD_NOT_RUN, done.stdout + done.stderr


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
