#!/bin/sh
# seqeval's default mode counts a BMES entity as right although its last tag is wrong.
#
# BMES (begin, middle, end, single) is the usual scheme of Chinese data sets. An entity that is tagged B M M has no end.
# The default mode knows no scheme, takes the unknown prefix M for the inside of an entity, and gives an F1 of 1. The
# strict mode gives 0, but has no scheme BMES: it takes the tags as IOBES after M is renamed to I.
#
# PYTHON names the interpreter (default: python3). Exit status: 0 as recorded, 1 changed, 2 could not run.
folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
{ "${PYTHON:-python3}" -m venv "$folder" && "$folder/bin/pip" install --quiet --disable-pip-version-check \
    'seqeval==1.2.2' 'numpy==1.26.4' 'scikit-learn==1.7.2' 'setuptools==65.5.0'; } || { echo 'could not run: the packages cannot be installed'; exit 2; }
cat >"$folder/finding.py" <<'PYTHON'
import os
import sys

sys.excepthook = lambda kind, error, trace: (print(f"could not run: {error!r}", flush=True), os._exit(2))

import warnings
from importlib.metadata import version

from seqeval.metrics import f1_score
from seqeval.scheme import IOBES

RIGHT = ["B-PER", "M-PER", "E-PER"]
NO_END = ["B-PER", "M-PER", "M-PER"]
EXPECTED = {"default": 0.0, "strict, M renamed to I": 0.0}
RECORDED = {"default": 1.0, "strict, M renamed to I": 0.0}


def renamed(tags: list[str]) -> list[str]:
    return [tag.replace("M-", "I-") for tag in tags]


def main() -> dict[str, float]:
    print(f"seqeval {version('seqeval')}")
    warnings.simplefilter("ignore")  # "M-PER seems not to be NE tag"
    strict = f1_score([renamed(RIGHT)], [renamed(NO_END)], mode="strict", scheme=IOBES)
    return {"default": float(f1_score([RIGHT], [NO_END])), "strict, M renamed to I": float(strict)}


if __name__ == "__main__":
    found = main()
    print(f"expected: {EXPECTED}\nseen:     {found}")
    if found != RECORDED:
        sys.exit(f"changed:  {RECORDED} was recorded")
PYTHON
cd "$folder" && "$folder/bin/python" finding.py
