#!/bin/sh
# `import paddle` sets OMP_NUM_THREADS=1 in the environment of the process.
#
# An import is not expected to change the environment. Matrix products of Paddle then use one core, and so do child
# processes that inherit the variable, whatever library they use. A value that is set before the import is kept.
#
# PYTHON names the interpreter (default: python3). Exit status: 0 as recorded, 1 changed, 2 could not run.
folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
{ "${PYTHON:-python3}" -m venv "$folder" && "$folder/bin/pip" install --quiet --disable-pip-version-check \
    'paddlepaddle==2.6.2' 'numpy==1.26.4' 'protobuf==3.20.3' 'setuptools==65.5.0'; } || { echo 'could not run: the packages cannot be installed'; exit 2; }
cat >"$folder/finding.py" <<'PYTHON'
import os
import sys

sys.excepthook = lambda kind, error, trace: (print(f"could not run: {error!r}", flush=True), os._exit(2))

import subprocess

EXPECTED = {"not set": "None", "2": "2"}
RECORDED = {"not set": "1", "2": "2"}
# zlib first: Paddle 2.6 contains another copy of it.
CHILD = "import zlib, paddle, os; print(paddle.__version__, os.environ.get('OMP_NUM_THREADS'))"


def main() -> dict[str, str]:
    found = {}
    for given in RECORDED:
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        if given != "not set":
            environment["OMP_NUM_THREADS"] = given
        child = subprocess.run(
            [sys.executable, "-c", CHILD], env=environment, check=True, capture_output=True, text=True
        )
        version, found[given] = child.stdout.split()
    print(f"paddlepaddle {version}")
    return found


if __name__ == "__main__":
    found = main()
    print(f"expected: {EXPECTED}\nseen:     {found}")
    if found != RECORDED:
        sys.exit(f"changed:  {RECORDED} was recorded")
PYTHON
cd "$folder" && "$folder/bin/python" finding.py
