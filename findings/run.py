"""Runs every finding and prints which behaviour has changed.

Exit status: 0 if every behaviour is as recorded, 1 if one has changed, 2 if one could not be run and none has changed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = {0: "as recorded", 1: "changed"}
COULD_NOT_RUN = 2


def main(names: list[str]) -> int:
    """`names` chooses among the findings; without names all are run."""
    chosen = [path for path in sorted(HERE.glob("*.sh")) if path.stem in names or not names]
    width = max((len(path.stem) for path in chosen), default=0)
    statuses = []
    for path in chosen:
        done = subprocess.run([path], env={**os.environ, "PYTHON": sys.executable}, capture_output=True, text=True)
        status = done.returncode if done.returncode in RESULTS else COULD_NOT_RUN
        statuses.append(status)
        print(f"{path.stem:{width}}  {RESULTS.get(status, 'could not run')}", flush=True)
        if status:
            print(
                "".join(f"    {line}\n" for line in (done.stdout + done.stderr).splitlines()[-20:]), end="", flush=True
            )
    return 1 if 1 in statuses else max(statuses, default=COULD_NOT_RUN)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
